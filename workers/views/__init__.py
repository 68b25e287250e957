"""The pages. Each view is: look up, ask the queries, render."""

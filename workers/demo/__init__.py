"""A fleet to try the product on: realistic files, and real processes that keep changing them."""

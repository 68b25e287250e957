"""Who is told of what, when: rules and their life cycle (pure), what reads and writes them, and what sends."""

"""The coordination directory on disk, read and (later) written without Django and without a clock."""

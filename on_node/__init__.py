"""What runs on a node over ssh: Python 3.5 or later, the standard library only."""

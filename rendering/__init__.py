"""Pure functions that render text: no I/O but this project's own files, no resources."""

"""The stack's configuration as checked values: models, their messages, and what reads them. No resources here."""

"""What `make` runs around pulumi: bringing a stack up, proving it, taking it down. No resources here."""

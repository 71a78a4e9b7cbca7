"""ComponentResources: each file shows at a glance what it creates. Values come in as arguments, checked."""

"""Stand-ins for the Pulumi provider plugins the sandbox can't obtain.

They speak the engine's provider protocol well enough for the product's own program; nothing of the product imports
them.
"""

"""What Pulumi runs on the administrator's machine, in this project's virtual environment."""

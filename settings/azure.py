"""The storage account's key: its text, or a file that holds it."""

from pathlib import Path

from pydantic import SecretStr

from settings.model import Settings
from settings.values import check_account_key, read_file


def read_account_key(settings: Settings, base: Path, problems: list[str]) -> str | None:
    """None where there is none, or where it can't be used: then the reason is added to the list."""
    if settings.docker_cache_azure_account_key:
        return settings.docker_cache_azure_account_key.get_secret_value()
    path = settings.docker_cache_azure_account_key_path
    if path is None or not settings.is_on_azure:
        return None
    try:
        text = read_file(path, base).strip()
    except ValueError as error:
        problems.append(f"docker_cache_azure_account_key_path {error}")
        return None
    try:
        return check_account_key(SecretStr(text)).get_secret_value()
    except ValueError as error:
        problems.append(f'docker_cache_azure_account_key_path is "{path}": {error}')
        return None

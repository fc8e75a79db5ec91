"""The configuration: its model, and how a file becomes one."""

from gravity.config.document import Config
from gravity.config.load import LoadedConfig, load_config, parse_config
from gravity.config.problem import ConfigError, Notice, Place, Problem

__all__ = [
    "Config",
    "ConfigError",
    "LoadedConfig",
    "Notice",
    "Place",
    "Problem",
    "load_config",
    "parse_config",
]

"""The user's own conf/ in Hydra's search path, where Hydra looks for its plugins."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from ablations.ground.paths import OWN_CONF


class OwnConf(SearchPathPlugin):
    """Adds the conf/ of the project folder behind the one that the project brings."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if OWN_CONF is not None:
            search_path.append("project-folder", f"file://{OWN_CONF}")

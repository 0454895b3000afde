"""The configured models by name. Fits `runtime.ports.Models`."""

from collections.abc import Mapping

from dragoman.core.errors import BadRequest
from dragoman.core.names import ProjectId
from dragoman.runtime.ports import Model


class Catalogue:
    """Owns its models: `close` closes each of them once, even if it has several names."""

    def __init__(self, models: Mapping[str, Model], default: str) -> None:
        """Raises BadRequest if the default is not among them."""
        if default not in models:
            raise BadRequest(f"no model is called {default!r}; there are: {', '.join(models) or 'none'}")
        self._models = dict(models)
        self._default = models[default]

    async def choose(self, project: ProjectId, name: str) -> tuple[Model, str]:
        """See the port. A configured model goes by the name that is configured for its wire, hence ""."""
        model = self._models.get(name)
        if model is not None:
            return model, ""
        return self._default, name

    async def knows(self, project: ProjectId, name: str) -> bool:
        return name in self._models

    async def close(self) -> None:
        models, self._models = self._models, {}
        for model in {id(model): model for model in models.values()}.values():
            await model.close()

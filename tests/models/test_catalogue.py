import pytest

from dragoman.core.errors import BadRequest
from dragoman.core.names import ProjectId
from dragoman.models.catalogue import Catalogue
from tests.models.asking import Puppet

MAIN, SMALL = Puppet(), Puppet()


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("", (MAIN, "")),
        ("main", (MAIN, "")),
        ("small", (SMALL, "")),
        ("anthropic/claude-4.5-sonnet", (MAIN, "anthropic/claude-4.5-sonnet")),
        ("Main", (MAIN, "Main")),
    ],
)
async def test_a_configured_name_is_that_model_and_any_other_goes_to_the_default(
    name: str, chosen: tuple[Puppet, str]
) -> None:
    catalogue = Catalogue({"main": MAIN, "small": SMALL}, "main")
    assert await catalogue.choose(ProjectId("default"), name) == chosen
    assert await catalogue.knows(ProjectId("default"), name) == (name in ("main", "small"))


@pytest.mark.parametrize(("models", "known"), [({"small": SMALL}, "small"), ({}, "none")])
def test_a_default_that_is_not_configured_is_refused(models: dict[str, Puppet], known: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Catalogue(models, "main")
    assert caught.value.detail == f"no model is called 'main'; there are: {known}"


async def test_closing_closes_each_model_once_however_often() -> None:
    first, second = Puppet(), Puppet()
    catalogue = Catalogue({"a": first, "b": second, "c": first}, "a")
    await catalogue.close()
    await catalogue.close()
    assert (first.closed, second.closed) == (1, 1)

import pytest


@pytest.fixture(autouse=True)
def models_as_given(monkeypatch):
    """A `Model` that a test made is taken as it is."""
    from tiler import predicting

    usual = predicting.opened
    monkeypatch.setattr(
        predicting,
        "opened",
        lambda model, options: model if hasattr(model, "run") else usual(model, options),
    )

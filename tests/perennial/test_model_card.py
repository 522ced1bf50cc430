"""The card survives as JSON, with its order and its types."""

from perennial.model_card import ModelCard
from tests.support.models import small_model


def test_a_card_survives_as_json() -> None:
    card = small_model("multiclass").card
    text = card.model_dump_json(by_alias=True)
    again = ModelCard.model_validate_json(text)
    assert again == card
    assert list(again.spec.features) == list(card.spec.features)
    assert {name: type(value) for name, value in again.params.items()} == {n: type(v) for n, v in card.params.items()}
    assert '"schema":' in text


def test_until_is_the_newest_training_row() -> None:
    card = small_model().card
    assert card.until == card.data.until

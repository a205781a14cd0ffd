"""JSON that is read back must have one meaning only."""

import pytest

from trader.codec import parse_json


@pytest.mark.parametrize("text", ['{"mode": "live", "mode": "paper"}', '{"report": {"mode": 1, "side": 2, "mode": 1}}'])
def test_a_name_that_occurs_twice_in_an_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it has 'mode' twice"):
        parse_json(text)


def test_a_name_may_occur_in_several_objects() -> None:
    assert parse_json('[{"mode": 1}, {"mode": {"mode": 2}}]') == [{"mode": 1}, {"mode": {"mode": 2}}]

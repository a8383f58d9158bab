"""What is kept of good answers: for a while, and not too much of it."""

from services.marketplace.recommendations.kept import MOST, Kept


def test_a_value_is_kept_for_a_while() -> None:
    """The last one of its key, until it is too old."""
    now_s = [0.0]
    kept: Kept[str] = Kept(60, lambda: now_s[0])
    kept.put(1, "old")
    kept.put(1, "new")
    now_s[0] = 59.9
    assert (kept.get(1), kept.get(2)) == ("new", None)
    now_s[0] = 60.0
    assert kept.get(1) is None


def test_nothing_is_kept_for_no_time() -> None:
    """With 0 seconds it is off."""
    kept: Kept[str] = Kept(0)
    kept.put(1, "new")
    assert kept.get(1) is None


def test_it_is_bounded() -> None:
    """The key that was put longest ago goes first."""
    kept: Kept[int] = Kept(60)
    for key in range(MOST):
        kept.put(key, key)
    kept.put(0, 0)
    kept.put(MOST, MOST)
    assert [kept.get(key) for key in (0, 1, 2, MOST)] == [0, None, 2, MOST]

"""When clusters are reviewed, and what makes it sooner or later."""

import numpy as np

from farpoint_models.review import GAIN, REVIEW, REVIEW_LEAST, SWELLING, Review

IDS = np.array([3, 8, 9])
OLD = np.zeros(3, np.bool_)


def cost_of(pair: float) -> np.ndarray:
    """Costs of merging three clusters: `pair` for 8 and 9, more for the others."""
    return np.array([[0.0, 50.0, 50.0], [50.0, 0.0, pair], [50.0, pair, 0.0]])


def test_what_gains_nothing_is_tried_ever_more_rarely() -> None:
    """Each review without a gain doubles the pause, up to the longest."""
    review = Review()
    review.begin(1000)
    assert not review.is_due(999 + REVIEW, 0.1)
    now, pauses = 1000 + REVIEW, []
    for _ in range(12):
        assert review.is_due(now, 0.1)
        review.leave(now, 0.1)
        pauses.append(review.due - now)
        now = review.due
    assert pauses[:3] == [2 * REVIEW, 4 * REVIEW, 8 * REVIEW]
    assert pauses[-1] == REVIEW_LEAST


def test_a_swollen_cluster_is_a_reason_to_look_at_once() -> None:
    """Before its time a review is due only where a cluster has swollen beyond what was left alone."""
    review = Review()
    review.leave(0, 0.2)
    assert not review.is_due(1, 0.2 * SWELLING * 0.99)
    assert review.is_due(1, 0.2 * SWELLING)


def test_a_split_is_judged_once_it_is_old_enough() -> None:
    """Worth while: the next review comes soon; useless, or gone: it waits twice as long; young: neither yet."""
    for pair, ids, expected in ((GAIN * 5.0 + 1, IDS, REVIEW), (5.0, IDS, 4 * REVIEW), (99.0, IDS + 1, 4 * REVIEW)):
        review = Review()
        review.leave(0, 0.2)
        review.note_split(100, child=9, parent=8, paid=5.0)
        assert review.due == 100 + 2 * REVIEW
        if ids is IDS:
            review.judge(ids, cost_of(pair), np.array([False, False, True]))
            assert (review.pause, len(review.trials)) == (2 * REVIEW, 1)
        review.judge(ids, cost_of(pair), OLD)
        assert (review.pause, len(review.trials)) == (expected, 0)

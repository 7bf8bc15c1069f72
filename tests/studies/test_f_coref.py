"""Windows of documents, padded, whole and left over."""

import numpy as np
import pytest

from studies import f_coref as study


@pytest.mark.parametrize("kind", list(study.SECOND))
def test_every_token_is_computed_once(kind: str) -> None:
    length = study.documents(200, 0.8)
    found = study.batches(kind, length)
    assert sum(batch.token for batch in found) == length.sum()
    assert all(sum(batch.window) >= batch.token for batch in found)
    assert max(max(batch.window) for batch in found) <= study.WINDOW


def test_equal_documents_of_whole_windows_have_no_padding() -> None:
    length = np.full(20, 2 * study.WINDOW)
    assert [study.padding(study.batches(kind, length)) for kind in study.SECOND] == [0.0, 0.0, 0.0]


def test_one_document_a_batch_where_none_other_fits() -> None:
    length = np.full(5, study.LIMIT)
    assert len(study.batches(study.BATCHED, length)) == len(study.batches(study.SINGLE, length)) == 5

"""Which of the two formats an Accept field asks for."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.metrics.negotiation import wants_openmetrics

PROMETHEUS_2 = (
    b"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    b"text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;"
    b"version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ([], False),
        ([b""], False),
        ([b"*/*"], False),
        ([b"text/html,application/xhtml+xml,*/*;q=0.8"], False),
        ([b"text/plain"], False),
        ([b"application/openmetrics-text"], True),
        ([b"application/*"], True),
        ([b"text/plain, application/openmetrics-text"], True),
        ([b"text/plain", b"application/openmetrics-text;q=0.9"], False),
        ([b"text/plain;q=0.5, application/openmetrics-text; q=0.6"], True),
        ([b"Application/OpenMetrics-Text; Version=\"1.0.0\" , */*"], True),
        ([b"application/openmetrics-text;version=0.0.1"], False),
        ([b"application/openmetrics-text;version=2.0.0, text/plain;q=0.1"], False),
        ([b"application/openmetrics-text;q=0, */*"], False),
        ([b"application/openmetrics-text;q=high, text/plain;q=0.001"], False),
        ([b"application/openmetrics-text;q=nan, text/plain;q=0"], False),
        ([b"text/plain;q=0, */*;q=0.5"], True),
        ([b"text/*;q=0.9, application/openmetrics-text;q=0.8"], False),
        ([PROMETHEUS_2], True),
        ([PROMETHEUS_3], True),
    ],
)
def test_the_format_with_the_greater_weight_is_sent(accept: list[bytes], openmetrics: bool) -> None:
    assert openmetrics == wants_openmetrics(accept)


@hypothesis.given(st.lists(st.binary()))
def test_whatever_stands_there_there_is_an_answer(accept: list[bytes]) -> None:
    assert wants_openmetrics(accept) in (True, False)

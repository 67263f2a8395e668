"""Queries, with the selectors that every one of them has: the chosen jobs and instances."""

from dataclasses import dataclass

RATE = "$__rate_interval"


@dataclass(frozen=True)
class Query:
    """A PromQL expression and how its series are called."""

    expr: str
    legend: str = ""


def metric(name: str, **matchers: str) -> str:
    """Select a metric's series; a matcher that begins with `~` is a regular expression.

    Examples
    --------
    >>> metric("farpoint_clusters")
    'farpoint_clusters{job=~"$job", instance=~"$instance"}'
    >>> metric("up", topic="~.+[.]dlq")
    'up{job=~"$job", instance=~"$instance", topic=~".+[.]dlq"}'
    """
    selectors = ['job=~"$job"', 'instance=~"$instance"']
    for label, value in matchers.items():
        selectors.append(f'{label}=~"{value[1:]}"' if value.startswith("~") else f'{label}="{value}"')
    return f"{name}{{{', '.join(selectors)}}}"


def per_second(name: str, *by: str, **matchers: str) -> str:
    """Write the rate of a counter, summed over all but the labels `by`."""
    return f"{_sum(by)} (rate({metric(name, **matchers)}[{RATE}]))"


def in_step(name: str, *by: str, **matchers: str) -> str:
    """Write how much a counter grew in each step.

    Grafana's rate interval is a step and a scrape long, so that its samples span just the step and each event counts
    once; the increase over a window of one step would miss what falls between two windows.
    """
    return f"{per_second(name, *by, **matchers)} * $__interval_ms / 1000"


def quantile(share: float, histogram: str, *by: str, **matchers: str) -> str:
    """Write a quantile of a histogram."""
    return f"histogram_quantile({share:g}, {per_second(f'{histogram}_bucket', *by, 'le', **matchers)})"


def mean(histogram: str) -> str:
    """Write the mean of a histogram, where it counted anything."""
    return f"{per_second(f'{histogram}_sum')} / ({per_second(f'{histogram}_count')} > 0)"


def quantiles(histogram: str, *shares: float) -> list[Query]:
    """Write several quantiles, each called by its share: p50, p99.9."""
    return [Query(quantile(share, histogram), f"p{share * 100:g}") for share in shares]


def _sum(by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)})" if by else "sum"

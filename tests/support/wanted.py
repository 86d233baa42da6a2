"""Which sum a message to a node is about, for whoever watches from outside. For tests only."""

from privacy.messages import EvaluateRequest, Request, StatisticsRequest, TrainRequest

Sum = tuple[str, str, int]
"""Run, step, round."""


def sum_of(run: str, request: Request) -> Sum | None:
    """For which sum a request wants a vector; None: for none."""
    if isinstance(request, StatisticsRequest):
        return run, "statistics", request.stage
    if isinstance(request, TrainRequest):
        return run, "update", request.round
    if isinstance(request, EvaluateRequest):
        return run, f"evaluate {request.part}", request.round
    return None

"""State repair: the monitor's state, derived anew from the results of closed windows.

What is closed is in the results as it was decided, and so is the last request, which a home without a ledger needs. The account
is made of the comparisons that the results tell; where several windows were booked at once, only the newest of them is told, and
the account begins with fewer.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from monitoring.champion_account import ChampionAccount, PairedLoss
from monitoring.policy import RetrainRequest
from monitoring.state import EarlierRequest, MonitorState, WindowResult, read_result
from perennial.errors import ArchiveError, NewerFormat


def derive_state(home: Path) -> MonitorState:
    """The state that the readable results of windows lead to; a fresh one where there is none, so that all are judged anew."""
    results = readable_results(home)
    if not results:
        return MonitorState()
    return MonitorState(closed_until=results[-1].window.end, last_request=_last_request(results), account=_account(results))


def readable_results(home: Path) -> tuple[WindowResult, ...]:
    """The results of closed windows that can be read, oldest first."""
    found = []
    for path in sorted((home / "windows").glob("*.json")):
        with suppress(ArchiveError, NewerFormat):
            found.append(read_result(path))
    return tuple(found)


def _last_request(results: Sequence[WindowResult]) -> EarlierRequest | None:
    asked = next((one for one in reversed(results) if one.decision.flow is not None and one.decision.event_id is not None), None)
    if asked is None:
        return None
    decision = asked.decision
    request = RetrainRequest.model_validate(
        {
            "model": asked.model,
            "version": asked.version,
            "window_start": asked.window.start,
            "window_end": asked.window.end,
            "cause": decision.kind,
            "reason": decision.reason,
            "report": asked.report,
            "event_id": decision.event_id,
        }
    )
    return EarlierRequest(request=request, sent_at=asked.closed_at, last_sent_at=asked.closed_at)


def _account(results: Sequence[WindowResult]) -> ChampionAccount | None:
    told = [one for one in results if one.account is not None]
    if not told or (last := told[-1].account) is None:
        return None
    statements = [one.account for one in told if one.account is not None and one.account.champion == last.champion]
    waiting = tuple(one.window for one in told[len(told) - last.unlabelled :])
    challengers = _distinct([one.newest for one in statements])
    return ChampionAccount(
        champion=last.champion,
        challengers=challengers,
        predecessor=_distinct([one.predecessor for one in statements]),
        waiting=waiting,
    )


def _distinct(pairs: Sequence[PairedLoss | None]) -> tuple[PairedLoss, ...]:
    """Each window's comparison once, as it was told last."""
    return tuple({pair.window.start: pair for pair in pairs if pair is not None}.values())

"""Sends to MLflow what has not been sent yet."""

import os
from typing import Annotated

import typer

from stages.common.cli import run, say
from stages.tracking import places
from stages.tracking.errors import DeliveryError, without_password
from stages.tracking.following import follow, send_now
from stages.tracking.reading import journals


def track(
    *,
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
) -> None:
    """Send to MLflow what has not been sent yet.

    Stages note down what happens, and a process in the background passes it on. What it could not
    pass on, because the server was away, this command does. Sending twice changes nothing.
    """
    if background:
        os.nice(19)
        follow()
        return
    server = without_password(places.server_address()[0])
    try:
        outcome = send_now()
    except (DeliveryError, OSError) as error:
        waiting = len(journals(places.spool()))
        typer.echo(
            f"error: cannot send to {server}: {error}. Nothing is lost: {waiting} journals wait in"
            f" {places.spool()}; run `python -m stages.track` again.",
            err=True,
        )
        raise typer.Exit(1) from None
    for path, reason in outcome.set_aside.items():
        typer.echo(f"error: {server} refuses a journal: {reason}. It is kept as {path}.", err=True)
    going_on = f"; {outcome.writing} stages are still writing" if outcome.writing else ""
    say(f"tracking: {outcome.sent or 'no new'} events sent to {server}{going_on}.")
    raise typer.Exit(1 if outcome.set_aside else 0)


if __name__ == "__main__":
    run(track)

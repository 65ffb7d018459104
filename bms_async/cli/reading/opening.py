"""``bms limits open``."""

from __future__ import annotations

from bms_async.cli.access.account_usage import SETTING, ask_store
from bms_async.cli.access.project_ids import find_account
from bms_async.cli.access.settings import read_settings
from bms_async.cli.terminal.confirm import confirm
from bms_async.cli.terminal.exit import Code
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import write
from bms_async.cli.terminal.rows import write_record
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import duration, strip_control_chars
from bms_async.limits.limits import check_account
from bms_async.limits.shared.store import Store
from bms_async.limits.shared.stores import find_store

__all__ = ["open_limits"]


def open_limits(*, account: str | None, store: str | None, cloud: str | None, yes: bool, output: OutputOptions) -> int:
    """Open an account in a store of shared limits at once, and return the exit code.

    Args:
        account: Its name; None for that of the cloud in the settings.
        store: The address of the store; None for that of the settings.
        cloud: A cloud of ``clouds.yaml``.
        yes: Whether to skip the confirmation.
        output: The form of the record; the usual one is text for people.

    Raises:
        ConfigurationError: There is no such store, or it refuses to be used.
        StoreFailedError: It does not answer.
        UsageError: The user did not confirm.
        BmsError: The account has no name of its own, its project's id is not known, and the cloud does not say it.
    """
    given, settings = store, None
    if account is None or store is None:
        # With both of them no cloud is needed, so that an operator needs no credentials of one.
        settings = read_settings(cloud)
        store = store or settings.limits
        account = settings.limits_account if account is None else account
    name = "" if account is None else check_account("--account", account)

    async def opening(found: Store) -> tuple[bool, float]:
        before = await found.read(name)
        await found.open_account(name)
        closed_for = 0.0 if before.account is None else max(0.0, before.account.closed_until - before.now)
        return before.account is not None, closed_for

    argument = SETTING if given is None else "--store"
    # What makes the store asks nothing, and its address for people has no password.
    label = find_store(argument, store)().label

    async def main(_stop: SignalHandler) -> int:
        nonlocal name
        if settings is not None and not name:
            name = await find_account(settings)
        if not yes:
            await confirm(
                f"open the limits of account {strip_control_chars(name)} in {strip_control_chars(label)} at once? Calls"
                " of the last minutes that are not known there are not counted then.",
                otherwise="confirm with --yes",
            )
        was_known, closed_for = await ask_store(store, opening, argument=argument)
        if not output.is_default:
            fields: dict[str, object] = {"type": "opened", "account": name, "store": label}
            fields |= {"was_known": was_known, "was_closed_for": round(closed_for, 1)}
            write_record(fields, output, name="account")
            return Code.OK
        was = f"was closed for {duration(closed_for)} more" if closed_for else "was open already"
        write(
            f"the limits of account {strip_control_chars(name)} in {strip_control_chars(label)} are open; the account"
            f" {was if was_known else 'was not known there'}\n"
        )
        return Code.OK

    return run_interruptibly(main)

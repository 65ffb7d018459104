"""Checks token requests: the user and the scope (API reference 3.1 and 3.2)."""

import hmac
from typing import Any, Final, Literal, NamedTuple

from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.core.settings import CloudSettings

__all__ = ["Login", "Named", "admit", "read_login"]

_METHOD: Final = "password"


class Named(NamedTuple):
    """Something by its id, or by its name and perhaps the domain it is in."""

    id: str | None = None
    name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None


class Login(NamedTuple):
    """A well-formed request for a token; `scope` is what the target is, None where there is none."""

    user: Named
    password: str
    scope: Literal["project", "domain"] | None
    target: Named

    def __repr__(self) -> str:
        return f"<Login user={self.user} scope={self.scope}>"


def read_login(content: dict[str, Any] | None) -> Login:
    """Check a request for a token.

    Raises:
        Refusal: It is none.
    """
    auth = _object(content or {}, "auth", "the body")
    identity = _object(auth, "identity", "auth")
    methods = identity.get("methods")
    if not isinstance(methods, list) or not methods or not all(isinstance(each, str) for each in methods):
        raise _malformed("identity needs methods, a list of names.")
    if methods != [_METHOD]:
        raise _unknown()
    user = _object(_object(identity, _METHOD, "identity"), "user", _METHOD)
    password = user.get("password")
    if not isinstance(password, str):
        raise _malformed("user needs a password.")
    named = _named(user, "user")
    if named.id is None and named.domain_id is None and named.domain_name is None:
        raise _malformed("user needs a domain beside a name.")
    scope, target = _read_scope(auth)
    return Login(named, password, scope, target)


def admit(login: Login, settings: CloudSettings) -> str | None:
    """The id of the project that the token is for, None for none.

    Raises:
        Refusal: The user, the password or the target is not known. Which one it is stays untold.
    """
    known = Named(settings.user_id, settings.username, settings.user_domain_id, settings.user_domain_name)
    if not _is(login.user, known):
        raise _unknown()
    # Half a character may stand in a setting from a command line, and in no request.
    known_password = settings.password.encode(errors="surrogatepass")
    if not hmac.compare_digest(login.password.encode(), known_password):
        raise _unknown()
    if login.scope == "project":
        for name, project_id in settings.projects.items():
            if _is(login.target, known._replace(id=project_id, name=name)):
                return project_id
        raise _unknown()
    if login.scope == "domain" and not _is(login.target, Named(settings.user_domain_id, settings.user_domain_name)):
        raise _unknown()
    return None


def _read_scope(auth: dict[str, Any]) -> tuple[Literal["project", "domain"] | None, Named]:
    scope = auth.get("scope")
    if scope in (None, "unscoped", {"unscoped": {}}):
        return None, Named()
    if not isinstance(scope, dict) or len(scope) != 1:
        raise _malformed("scope must be one project or one domain.")
    if "project" in scope:
        return "project", _named(_object(scope, "project", "scope"), "project")
    if "domain" in scope:
        return "domain", _named(_object(scope, "domain", "scope"), "domain")
    raise _malformed("scope must be a project or a domain.")


def _named(value: dict[str, Any], what: str) -> Named:
    domain = _object(value, "domain", what) if "domain" in value else None
    given = Named(*_id_and_name(value, what))
    if domain is None:
        return given
    domain_id, domain_name = _id_and_name(domain, f"the domain of {what}")
    return given._replace(domain_id=domain_id, domain_name=domain_name)


def _id_and_name(value: dict[str, Any], what: str) -> tuple[str | None, str | None]:
    given = value.get("id"), value.get("name")
    if not any(given) or not all(each is None or isinstance(each, str) for each in given):
        raise _malformed(f"{what} needs an id or a name, each a text.")
    return given


def _is(wanted: Named, known: Named) -> bool:
    if wanted.id is not None:
        return wanted.id == known.id
    return (
        wanted.name == known.name
        and wanted.domain_id in {None, known.domain_id}
        and wanted.domain_name in {None, known.domain_name}
    )


def _object(holder: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = holder.get(key)
    if not isinstance(value, dict):
        raise _malformed(f"{where} needs {key}, an object.")
    return value


def _malformed(why: str) -> Refusal:
    return Refusal(400, "Bad Request", f"Malformed: {why}", "keystone")


def _unknown() -> Refusal:
    # One text for all cases, so that it does not reveal which users and projects exist.
    return Refusal(401, "Unauthorized", "Nobody is known by these credentials.", "keystone")

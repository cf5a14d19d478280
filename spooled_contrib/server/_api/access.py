"""Who may in: API keys and access tokens, remembered in memory (contract section 1.1).

Looking a key up in the database for each request would cost more than most requests do. So found keys are kept, and
whoever changes a key, or revokes a login, tells every server on the database, which forgets what it must. A server that
cannot hear the others at the moment asks the database each time.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from typing import Any

from msgspec import Struct

from spooled.clock import Clock
from spooled_contrib.server import _refusals as refuse
from spooled_contrib.server import _sessions
from spooled_contrib.server._events import KEY_CHANGED, LOGIN_ENDED, Hub
from spooled_contrib.server._keys import key_hash
from spooled_contrib.server._principal import Principal, scope_of
from spooled_contrib.server._rate import RateLimiter
from spooled_contrib.server._rules import api_keys
from spooled_contrib.server._storage import Row, Storage, Tx
from spooled_contrib.server._times import SECOND

logger = logging.getLogger("spooled.server")

LAST_USED_EVERY = 300 * SECOND
"""`last_used` of a key is written at most this often."""

_MOST_TOKENS = 1000


class KnownKey(Struct):
    """A key as the gate remembers it."""

    id: str
    hash: str
    queues: list[str]
    rate_limit: int | None
    is_active: bool
    expires_at: int | None
    last_used: int
    principal: Principal


def _known(row: Row) -> KnownKey:
    queues = json.loads(row[5])
    return KnownKey(
        id=row[0],
        hash=row[3],
        queues=queues,
        rate_limit=row[6],
        is_active=bool(row[7]),
        expires_at=row[10],
        last_used=row[9] or 0,
        principal=Principal(row[1], row[0], scope_of(queues)),
    )


class Gate:
    """Turns a bearer into a `Principal`."""

    def __init__(
        self, storage: Storage, hub: Hub, clock: Clock, limiter: RateLimiter, jwt_secret: str
    ) -> None:
        self._storage = storage
        self._hub = hub
        self._clock = clock
        self.limiter = limiter
        self._secret = jwt_secret
        self._by_hash: dict[str, KnownKey] = {}
        self._by_id: dict[str, KnownKey] = {}
        self._tokens: dict[str, _sessions.Claims] = {}
        self._revoked: set[str] = set()
        # Counts changes: a key that was read before a change must not be remembered after it.
        self._changes = 0
        self._touching: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read which logins were revoked before this start, and listen from now on."""
        self._hub.on(KEY_CHANGED, self._forget)
        self._hub.on(LOGIN_ENDED, self._revoked.add)
        self._hub.rejoin = self._start_over
        await self._start_over()

    async def _start_over(self) -> None:
        """Anything may have changed."""
        self._changes += 1
        self._by_hash.clear()
        self._by_id.clear()
        rows = await self._storage.read(lambda tx: tx.select("SELECT sid FROM revoked_sessions"))
        self._revoked.update(row[0] for row in rows)

    async def authenticate(self, bearer: str) -> KnownKey:
        """Return the key behind an API key or an access token.

        Raises:
            RefusalError: 401 for anything that is not valid now.
        """
        if bearer.startswith("eyJ"):
            claims = self.claims(bearer)
            if claims.token_type != "access":  # noqa: S105
                raise refuse.unauthorized(
                    "A refresh token does not give access; exchange it at /auth/refresh"
                )
            return await self.key_of(claims)
        digest = key_hash(bearer)
        key = None if self._hub.cut_off else self._by_hash.get(digest)
        if key is None:
            changes = self._changes
            row = await self._storage.read(lambda tx: api_keys.find_by_hash(tx, digest))
            if row is None:
                raise refuse.unauthorized("Unknown API key")
            key = self._remember(_known(row), changes)
        if not hmac.compare_digest(key.hash, digest):
            raise refuse.unauthorized("Unknown API key")
        self._check_life(key)
        self._note_use(key)
        return key

    def claims(self, token: str) -> _sessions.Claims:
        """The claims of a token that is signed, in time and not revoked. Says nothing about its key.

        Raises:
            RefusalError: 401.
        """
        digest = key_hash(token)
        claims = self._tokens.get(digest)
        if claims is None:
            try:
                claims = _sessions.read(self._secret, token)
            except _sessions.InvalidTokenError:
                raise refuse.unauthorized("The token is not valid") from None
            if len(self._tokens) >= _MOST_TOKENS:
                self._tokens.clear()
            self._tokens[digest] = claims
        now = self._clock.now()
        if claims.exp <= now or claims.nbf > now:
            raise refuse.unauthorized("The token has expired")
        if claims.sid in self._revoked:
            raise refuse.unauthorized("The login was revoked")
        return claims

    async def key_of(self, claims: _sessions.Claims) -> KnownKey:
        """The key that a token was minted from, as it is now.

        Raises:
            RefusalError: 401 when the key is gone, revoked, expired, or has another secret by now.
        """
        key = None if self._hub.cut_off else self._by_id.get(claims.api_key_id)
        if self._hub.cut_off:
            await self._check_revoked(claims.sid)
        if key is None:
            changes = self._changes
            row = await self._storage.read(lambda tx: api_keys.find_by_id(tx, claims.api_key_id))
            if row is None:
                raise refuse.unauthorized("The API key of this token is gone")
            key = self._remember(_known(row), changes)
        if not hmac.compare_digest(claims.bound, _sessions.binding(self._secret, key.hash)):
            raise refuse.unauthorized("The token was made with another API key; log in again")
        self._check_life(key)
        return key

    def mint(self, key: KnownKey, token_type: Any, sid: str) -> str:
        return _sessions.mint(
            self._secret,
            token_type,
            key_id=key.id,
            key_hash=key.hash,
            organization_id=key.principal.organization_id,
            queues=key.queues,
            sid=sid,
            now=int(self._clock.now()),
        )

    def sign(self, text: str) -> str:
        """A code for `text` that nobody without the server's secret can make."""
        return hmac.new(self._secret.encode(), text.encode(), "sha256").hexdigest()

    async def _check_revoked(self, sid: str) -> None:
        question = "SELECT 1 FROM revoked_sessions WHERE sid = ?"
        if await self._storage.read(lambda tx: tx.select_one(question, (sid,))) is not None:
            raise refuse.unauthorized("The login was revoked")

    def _forget(self, key_id: str) -> None:
        self._changes += 1
        key = self._by_id.pop(key_id, None)
        if key is not None:
            self._by_hash.pop(key.hash, None)

    async def revoke_session(self, claims: _sessions.Claims) -> None:
        """End a login: its access and refresh tokens are worth nothing from now on."""
        expires_at = (claims.iat + _sessions.REFRESH_SECONDS + _sessions.ACCESS_SECONDS) * SECOND

        def end(tx: Tx) -> None:
            tx.execute(
                "INSERT INTO revoked_sessions (sid, expires_at) VALUES (?, ?) ON CONFLICT (sid) DO NOTHING",
                (claims.sid, expires_at),
            )
            tx.tell(LOGIN_ENDED, claims.sid)

        self._revoked.add(claims.sid)
        await self._storage.write(end)

    async def settle(self) -> None:
        """Wait for what was begun in passing."""
        if self._touching:
            await asyncio.gather(*self._touching, return_exceptions=True)

    def _remember(self, key: KnownKey, changes: int) -> KnownKey:
        if changes == self._changes and not self._hub.cut_off:
            self._by_hash[key.hash] = key
            self._by_id[key.id] = key
        return key

    def _check_life(self, key: KnownKey) -> None:
        if not key.is_active:
            raise refuse.unauthorized("The API key was revoked")
        if key.expires_at is not None and key.expires_at <= self._clock.now() * SECOND:
            raise refuse.unauthorized("The API key has expired")

    def _note_use(self, key: KnownKey) -> None:
        now = round(self._clock.now() * SECOND)
        if now - key.last_used < LAST_USED_EVERY:
            return
        key.last_used = now
        task = asyncio.ensure_future(self._storage.write(lambda tx: api_keys.touch(tx, key.id)))
        self._touching.add(task)
        task.add_done_callback(self._touched)

    def _touched(self, task: asyncio.Task[None]) -> None:
        self._touching.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("the last use of a key was not written: %s", error)

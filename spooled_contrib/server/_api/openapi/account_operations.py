"""Organizations, API keys and logins in words and types (contract section 8)."""

from __future__ import annotations

from typing import Final

from spooled_contrib.server._api import api_key_routes, auth_routes, organization_routes
from spooled_contrib.server._api.openapi import account_replies as account
from spooled_contrib.server._api.openapi.operation import Empty, Operation, Query, returns


def _closed(about: str) -> Operation:
    return Operation(
        about=f"{about}; always refused, because this server sends no e-mail", replies={}, errors=(403,)
    )


OPERATIONS: Final[dict[str, Operation]] = {
    "POST /api/v1/organizations": returns(
        "Create an organization and its first API key",
        account.OrganizationCreated,
        status=201,
        body=organization_routes.NewOrganizationBody,
        errors=(403, 409),
        extra_security=("adminKey",),
    ),
    "GET /api/v1/organizations": returns("The caller's organization", list[account.OrganizationSummary]),
    "GET /api/v1/organizations/usage": returns(
        "What is used of each limit", account.UsageReply, errors=(403,)
    ),
    "GET /api/v1/organizations/{id}": returns("One organization, the caller's own", account.Organization),
    "PUT /api/v1/organizations/{id}": returns(
        "Change the caller's organization; `settings` replaces all settings",
        account.Organization,
        body=organization_routes.ChangeBody,
        errors=(403, 409),
    ),
    "DELETE /api/v1/organizations/{id}": returns(
        "Close the caller's organization; 409 while it has something to do",
        Empty,
        status=204,
        errors=(403, 409),
    ),
    "GET /api/v1/organizations/{id}/members": returns(
        "Who belongs to the organization", list[account.Member], errors=(403,)
    ),
    "GET /api/v1/organizations/check-slug": returns(
        "Whether a slug can be had", account.SlugReply, query=[Query("slug", str, "The slug")]
    ),
    "POST /api/v1/organizations/generate-slug": returns(
        "A slug for a name, one that nobody has", account.SlugMade, body=organization_routes.NameBody
    ),
    "GET /api/v1/api-keys": returns("List API keys", list[account.ApiKey], errors=(403,)),
    "POST /api/v1/api-keys": returns(
        "Create an API key; it is shown this once",
        account.ApiKeyCreated,
        status=201,
        body=api_key_routes.NewKeyBody,
        errors=(403,),
    ),
    "GET /api/v1/api-keys/{id}": returns("One API key", account.ApiKey, errors=(403,)),
    "PUT /api/v1/api-keys/{id}": returns(
        "Change an API key", account.ApiKey, body=api_key_routes.ChangeBody, errors=(403,)
    ),
    "DELETE /api/v1/api-keys/{id}": returns("Revoke an API key", Empty, status=204, errors=(403,)),
    "POST /api/v1/auth/login": returns(
        "Exchange an API key for tokens",
        account.LoginReply,
        body=auth_routes.LoginBody,
        errors=(401,),
    ),
    "POST /api/v1/auth/refresh": returns(
        "A new access token", account.RefreshReply, body=auth_routes.RefreshBody, errors=(401,)
    ),
    "POST /api/v1/auth/logout": returns(
        "End a login", Empty, status=204, body=auth_routes.LogoutBody, body_is_optional=True
    ),
    "GET /api/v1/auth/me": returns("Who the access token speaks for", account.MeReply),
    "POST /api/v1/auth/validate": returns(
        "Whether a token is valid", account.ValidateReply, body=auth_routes.ValidateBody
    ),
    "GET /api/v1/auth/check-email": returns(
        "Whether an e-mail address is known",
        account.EmailReply,
        query=[Query("email", organization_routes.Email, "The address", required=True)],
    ),
    "POST /api/v1/auth/email/start": _closed("Begin to log in by e-mail"),
    "POST /api/v1/auth/email/verify": _closed("Log in by e-mail"),
    "POST /api/v1/auth/signup/complete": _closed("Sign up by e-mail"),
}

"""Closed months: their certificates, and the form that closes one."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask_wtf import FlaskForm
from sqlalchemy import text
from wtforms import SelectField, StringField
from wtforms.validators import DataRequired, Length, Regexp

from receiver.connections import LONG
from receiver.db import engine_for
from receiver.ops.closing import MONTH, NotClosed, close_month, month_name, read_certificate
from receiver.ops.console.parts import console, organizations, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from werkzeug.wrappers import Response

blueprint = Blueprint("closings", __name__, url_prefix="/closings")

ROWS: Final = 200
_CLOSINGS: Final = text(
    """
SELECT closing.*, state.complete_through AS now_complete_through
FROM ems.closings AS closing
LEFT JOIN ems.completeness AS state ON state.organization_reference_id = closing.organization_reference_id
WHERE :organization = '' OR closing.organization_reference_id = :organization
ORDER BY closing.month DESC, closing.organization_reference_id LIMIT :limit
"""
)


class MonthForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Which month to close."""

    class Meta:
        """It changes nothing, so it needs no token."""

        csrf = False

    organization = SelectField("Organization", [DataRequired("Choose an organization.")])
    month = StringField(
        "Month",
        [Regexp(MONTH, message="Enter a month such as 2026-10.")],
        render_kw={"autocomplete": "off", "placeholder": "2026-10", "size": 8},
    )


class CloseForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Confirms the closing of a month whose content is shown."""

    reason = StringField(
        "Reason, to close it although events are missing or not applied (optional)",
        [Length(max=500)],
        render_kw={"autocomplete": "off"},
    )


@blueprint.get("/")
def listing() -> str:
    """Show the closed months, of one organization if it is named, and the form."""
    return _page(_month(None))


@blueprint.get("/certificate")
def certificate() -> str:
    """Show the certificate of a closed month."""
    try:
        month = date.fromisoformat(f"{request.args.get('month', '')}-01")
    except ValueError:
        abort(404)
    found = read_certificate(console().engine, request.args.get("organization", ""), month)
    return render_template("certificate.html", certificate=found, month=month_name(month))


@blueprint.route("/close", methods=["GET", "POST"])
def close() -> Response | str | tuple[str, int]:
    """Show what is to be closed; close it once that is confirmed, or show why it is refused."""
    form, month_form = CloseForm(), _month(request.values)
    if not month_form.validate():
        return _page(month_form), 400
    organization, month = month_form.organization.data, month_form.month.data
    if request.method == "GET" or not form.validate():
        return _confirmation(form, organization, month), 200 if request.method == "GET" else 400
    reason = (form.reason.data or "").strip()
    engine = engine_for(console().settings.database_url, application="close", timeouts=LONG)  # a month may be large
    try:
        first_day = date.fromisoformat(f"{month}-01")
        close_month(engine, organization, first_day, by=g.me.name, acknowledge=reason or None)
    except NotClosed as refused:
        g.error = str(refused)
        return _confirmation(form, organization, month, refused.reasons), 409
    finally:
        engine.dispose()
    flash(f"{month} of {organization} is closed.", "success")
    return redirect(url_for("closings.certificate", organization=organization, month=month))


def _month(values: Any) -> MonthForm:  # noqa: ANN401 - werkzeug's MultiDict
    form = MonthForm(values)
    with reading() as connection:
        form.organization.choices = organizations(connection)
    return form


def _confirmation(form: CloseForm, organization: str, month: str, reasons: Sequence[str] = ()) -> str:
    return render_template("close.html", form=form, organization=organization, month=month, reasons=reasons)


def _page(form: MonthForm) -> str:
    organization = request.args.get("organization", "")
    with reading() as connection:
        rows = connection.execute(_CLOSINGS, {"organization": organization, "limit": ROWS}).all()
    return render_template("closings.html", rows=rows, form=form, month_name=month_name)

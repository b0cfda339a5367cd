"""Closed months: their certificates, and the form that closes one."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final

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


class CloseForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Which month to close."""

    organization = SelectField("Organization", [DataRequired("Choose an organization.")])
    month = StringField(
        "Month",
        [Regexp(MONTH, message="Give a month such as 2026-10.")],
        render_kw={"autocomplete": "off", "placeholder": "2026-10", "size": 8},
    )
    reason = StringField(
        "Reason, if events are permanently missing (optional)",
        [Length(max=500)],
        render_kw={"autocomplete": "off"},
    )


@blueprint.get("/")
def listing() -> str:
    """Show the closed months, of one organization if it is named, and the form."""
    return _page(_form(), [])


@blueprint.get("/certificate")
def certificate() -> str:
    """Show the certificate of a closed month."""
    try:
        month = date.fromisoformat(f"{request.args.get('month', '')}-01")
    except ValueError:
        abort(404)
    found = read_certificate(console().engine, request.args.get("organization", ""), month)
    return render_template("certificate.html", certificate=found, month=month_name(month))


@blueprint.post("/")
def close() -> Response | tuple[str, int]:
    """Close a month, or show why that is refused."""
    form = _form()
    if not form.validate():
        return _page(form, []), 400
    organization, month = form.organization.data, form.month.data
    reason = (form.reason.data or "").strip()
    engine = engine_for(console().settings.database_url, application="close", bounds=LONG)  # a month may be large
    try:
        first_day = date.fromisoformat(f"{month}-01")
        close_month(engine, organization, first_day, by=g.me.name, acknowledge=reason or None)
    except NotClosed as refused:
        g.error = str(refused)
        return _page(form, refused.reasons), 409
    finally:
        engine.dispose()
    flash(f"{month} of {organization} is closed.", "success")
    return redirect(url_for("closings.certificate", organization=organization, month=month))


def _form() -> CloseForm:
    form = CloseForm()
    with reading() as connection:
        form.organization.choices = organizations(connection)
    return form


def _page(form: CloseForm, reasons: list[str]) -> str:
    organization = request.args.get("organization", "")
    with reading() as connection:
        rows = connection.execute(_CLOSINGS, {"organization": organization, "limit": ROWS}).all()
    return render_template(
        "closings.html", rows=rows, form=form, reasons=reasons, organization=organization, month_name=month_name
    )

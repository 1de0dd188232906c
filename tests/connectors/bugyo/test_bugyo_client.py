"""The client against the emulator: export, import, tenants, and every error a person can meet."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from connectors.bugyo import (
    OTHER_CUSTOMER_CODE,
    Customer,
    any_of,
    fixed_token,
    where,
)
from connectors.bugyo.emulator import (
    DEMO_FIXED_TOKEN,
    DEMO_FOREIGN_TENANT,
    DEMO_SECONDARY_KEY,
    DEMO_SUBSCRIPTION_KEY,
    DEMO_TENANTS,
)
from connectors.kit import (
    AppConnectError,
    FaultError,
    Masker,
    ReauthorizeError,
    SettingsError,
    UnknownOutcomeError,
    WaitError,
)
from connectors.kit.emulator import Fault, free_port

if TYPE_CHECKING:
    from tests.connectors.bugyo.conftest import Service

Writes = Callable[[], dict[str, int]]
TENANT = DEMO_TENANTS[0].id


def customers(*codes: str) -> list[Customer]:
    return [{"code": code, "name": f"得意先{code}"} for code in codes]


# --- reading ---------------------------------------------------------------------------------


async def test_tenants_of_the_token(service: Service) -> None:
    async with service.client(tenant_id=None) as client:
        assert await client.search_tenants() == list(DEMO_TENANTS)


async def test_business_calls_need_a_tenant(service: Service) -> None:
    async with service.client(tenant_id=None) as client:
        with pytest.raises(SettingsError, match="AC-204"):
            await client.export_customers(fields=["code"])
    assert service.requests("ExportCustomer") == 0


async def test_export_has_exactly_the_fields_asked_for(service: Service) -> None:
    service.emulator.seed(TENANT, [{"code": "2", "name": "乙"}, {"code": "1", "name": "甲"}])
    async with service.client() as client:
        found = await client.export_customers(
            where=where("code").ne(OTHER_CUSTOMER_CODE), fields=["code", "name", "billing_code"]
        )
    assert found == [
        {"code": "1", "name": "甲", "billing_code": "1"},
        {"code": "2", "name": "乙", "billing_code": "2"},
    ]


async def test_the_built_in_other_customer_is_in_every_tenant(service: Service) -> None:
    for tenant in DEMO_TENANTS:
        async with service.client(tenant_id=tenant.id) as client:
            found = await client.export_customers(fields=["code", "name"])
        assert found == [{"code": "0", "name": "その他"}]


async def test_filters_and_order(service: Service) -> None:
    service.emulator.seed(
        TENANT,
        [
            {"code": f"{n:03}", "name": f"得意先{n % 3}", "updated_at": f"2026/11/{n:02} 05:00:00"}
            for n in range(1, 21)
        ],
    )

    async def codes(condition: object, *sort: str) -> list[str]:
        async with service.client() as client:
            found = await client.export_customers(
                where=condition,  # type: ignore[arg-type]
                fields=["code"],
                sort=sort or ("code",),
            )
        return [each["code"] for each in found]

    assert await codes(any_of("code", ["003", "001", "999"])) == ["001", "003"]
    assert await codes(where("code").ge("005") & where("code").le("007")) == ["005", "006", "007"]
    assert await codes(any_of("code", ["001", "003"]) & where("name").eq("得意先0")) == ["003"]
    assert await codes(any_of("code", ["001"]) | where("code").ge("020")) == ["001", "020"]
    assert await codes(where("updated_at").ge("2026/11/19") & where("code").ne("0")) == [
        "019",
        "020",
    ]
    assert await codes(any_of("code", ["001", "002"]), "code desc") == ["002", "001"]


async def test_nothing_found_is_an_empty_body(service: Service) -> None:
    async with service.client() as client:
        assert await client.export_customers(where=where("code").eq("9"), fields=["code"]) == []


@pytest.mark.parametrize(
    ("status", "body"), [(200, ""), (204, ""), (200, "null"), (200, "[]"), (200, " \r\n")]
)
async def test_all_forms_of_nothing(service: Service, status: int, body: str) -> None:
    service.emulator.faults.add(Fault(kind="status", status=status, body=body))
    async with service.client() as client:
        assert await client.export_customers(fields=["code"]) == []


async def test_values_that_are_not_strings_become_strings(service: Service) -> None:
    service.emulator.faults.add(
        Fault(kind="status", status=200, body='[{"AR2010001":12,"AR2010003":null}]')
    )
    async with service.client() as client:
        found = await client.export_customers(fields=["code", "name"])
    assert found == [{"code": "12", "name": ""}]


async def test_a_row_without_an_asked_field_is_an_error(service: Service) -> None:
    service.emulator.faults.add(Fault(kind="status", status=200, body='[{"AR2010001":"1"}]'))
    async with service.client() as client:
        with pytest.raises(FaultError, match="AC-303"):
            await client.export_customers(fields=["code", "name"])


# --- writing ---------------------------------------------------------------------------------


async def test_import_creates_and_then_updates_in_part(service: Service, writes: Writes) -> None:
    async with service.client() as client:
        first = await client.import_customers(
            [{"code": "000123", "name": "髙﨑①㈱", "phone": "03-1234-5678"}]
        )
        second = await client.import_customers([{"code": "000123", "memo3": "K-1"}])
        (found,) = await client.export_customers(
            where=where("code").eq("000123"),
            fields=["code", "name", "phone", "memo3", "billing_code"],
        )
    assert first.refused == second.refused == {}
    assert first.others_stored
    assert first.whole is None
    assert found == {
        "code": "000123",
        "name": "髙﨑①㈱",
        "phone": "03-1234-5678",
        "memo3": "K-1",
        "billing_code": "000123",
    }
    assert writes() == {"000123": 2}


async def test_import_changes_the_last_change(service: Service) -> None:
    service.emulator.seed(
        TENANT, [{"code": "1", "name": "甲", "updated_at": "2020/01/01 00:00:00"}]
    )
    async with service.client() as client:
        await client.import_customers([{"code": "1", "memo1": "x"}])
        found = await client.export_customers(
            where=where("updated_at").ge("2020/01/02") & where("code").eq("1"), fields=["code"]
        )
    assert found == [{"code": "1"}]


async def test_nothing_to_import_sends_nothing(service: Service) -> None:
    async with service.client() as client:
        assert (await client.import_customers([])).others_stored
    assert service.requests("ImportCustomer") == 0


async def test_all_or_nothing_names_the_bad_rows(service: Service, writes: Writes) -> None:
    rows = customers("1", "2", "3")
    rows[1]["name"] = "あ" * 41
    rows[2]["billing_code"] = "77"
    async with service.client() as client:
        outcome = await client.import_customers(rows)
    assert not outcome.others_stored
    assert outcome.whole is None
    assert sorted(outcome.refused) == [1, 2]
    assert outcome.refused[1].field == "name"
    assert outcome.refused[1].label == "得意先名"
    assert "桁数" in outcome.refused[1].message
    assert outcome.refused[2].field == "billing_code"
    assert outcome.detail.status == 400
    assert writes() == {}


@pytest.mark.parametrize("reply", ["empty", "list", "rows"])
async def test_partial_200_stores_the_others(service: Service, writes: Writes, reply: str) -> None:
    service.set(import_mode="partial_200", import_reply=reply)
    rows = customers("1", "2", "3")
    rows[0]["phone"] = "０３"
    async with service.client() as client:
        outcome = await client.import_customers(rows)
        clean = await client.import_customers(customers("4"))
    assert outcome.others_stored
    assert list(outcome.refused) == [0]
    assert outcome.refused[0].field == "phone"
    assert outcome.refused[0].code == "E1006"
    assert clean.refused == {}
    assert writes() == {"2": 1, "3": 1, "4": 1}


async def test_bare_400_is_a_refusal_of_the_whole(service: Service, writes: Writes) -> None:
    service.set(import_mode="bare_400")
    rows = customers("1", "2")
    rows[0]["name"] = ""
    async with service.client() as client:
        outcome = await client.import_customers(rows)
    assert outcome.refused == {}
    assert not outcome.others_stored
    assert outcome.whole is not None
    assert outcome.whole.message == "受入データに誤りがあります。"
    assert writes() == {}


@pytest.mark.parametrize(
    "body", ["だめです", '{"detail":"no"}', '{"errors":[{"rowNo":99,"message":"?"}]}']
)
async def test_a_refusal_of_any_shape_keeps_the_vendors_words(service: Service, body: str) -> None:
    service.emulator.faults.add(Fault(kind="status", status=400, body=body))
    async with service.client() as client:
        outcome = await client.import_customers(customers("1"))
    assert outcome.refused == {}
    assert not outcome.others_stored
    assert outcome.whole is not None
    assert outcome.detail.vendor_message == body


async def test_two_errors_of_one_row_are_joined(service: Service) -> None:
    async with service.client() as client:
        outcome = await client.import_customers([{"code": "1", "name": "あ" * 41, "phone": "０３"}])
    assert "得意先名" in outcome.refused[0].message
    assert "電話番号" in outcome.refused[0].message


async def test_accepted_with_errors_that_name_no_row_is_unknown(service: Service) -> None:
    service.emulator.faults.add(
        Fault(kind="replace_body", body='{"errors":[{"message":"一部の行に誤り"}]}')
    )
    async with service.client() as client:
        with pytest.raises(UnknownOutcomeError, match="一部の行に誤り"):
            await client.import_customers(customers("1"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="drop_after"),
        Fault(kind="drop_before"),
        Fault(kind="status", status=500),
        Fault(kind="maintenance"),
        Fault(kind="maintenance_200"),
        Fault(kind="replace_body", body="<html>proxy</html>"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_a_post_without_a_definite_answer_is_unknown_and_not_repeated(
    service: Service, writes: Writes, fault: Fault
) -> None:
    service.emulator.faults.add(fault)
    async with service.client() as client:
        with pytest.raises(UnknownOutcomeError) as caught:
            await client.import_customers(customers("1"))
        assert caught.value.code == "AC-402"
        assert service.requests("ImportCustomer") == 1
        settled = await client.export_customers(where=where("code").eq("1"), fields=["code"])
    assert len(settled) == sum(writes().values()) <= 1
    if fault.kind in ("drop_after", "replace_body"):
        assert settled  # stored, and the answer lost


async def test_429_is_repeated_because_nothing_was_processed(
    service: Service, writes: Writes
) -> None:
    service.emulator.faults.add(Fault(kind="status", status=429, headers={"retry-after": "0"}))
    async with service.client() as client:
        assert (await client.import_customers(customers("1"))).refused == {}
    assert writes() == {"1": 1}


# --- errors ----------------------------------------------------------------------------------


async def error_of(service: Service, **options: object) -> AppConnectError:
    async with service.client(**options) as client:  # type: ignore[arg-type]
        with pytest.raises(AppConnectError) as caught:
            await client.export_customers(fields=["code"])
    return caught.value


async def test_either_subscription_key_works(service: Service) -> None:
    async with service.client(subscription_key=DEMO_SECONDARY_KEY) as client:
        assert await client.search_tenants()


async def test_wrong_subscription_key(service: Service) -> None:
    error = await error_of(service, subscription_key="f" * 32)
    assert error.code == "AC-103"
    assert "invalid subscription key" in str(error)
    assert "f" * 32 not in str(error)


async def test_wrong_or_revoked_token(service: Service) -> None:
    error = await error_of(service, authorizer=fixed_token("nonsense-token"))
    assert isinstance(error, ReauthorizeError)
    assert error.code == "AC-101"
    service.emulator.accounts.revoke(token=DEMO_FIXED_TOKEN)
    assert (await error_of(service)).code == "AC-101"


async def test_wrong_tenant(service: Service) -> None:
    for tenant in (DEMO_FOREIGN_TENANT.id, "no-such-tenant"):
        error = await error_of(service, tenant_id=tenant)
        assert (error.code, error.detail.status) == ("AC-204", 403)
    async with service.client(tenant_id=DEMO_FOREIGN_TENANT.id) as client:
        with pytest.raises(SettingsError, match="AC-204"):
            await client.import_customers(customers("1"))
    books = service.emulator.books()["tenants"]
    assert books[DEMO_FOREIGN_TENANT.id]["writes"] == {}


async def test_tenants_do_not_mix(service: Service) -> None:
    async with service.client(tenant_id=DEMO_TENANTS[1].id) as client:
        await client.import_customers(customers("1"))
    books = service.emulator.books()["tenants"]
    assert books[DEMO_TENANTS[0].id]["writes"] == {}
    assert books[DEMO_TENANTS[1].id]["writes"] == {"1": 1}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="maintenance", times=None), "AC-502"),
        (Fault(kind="maintenance_200", times=None), "AC-502"),
        (Fault(kind="replace_body", body="<html>hello</html>", times=None), "AC-303"),
        (Fault(kind="status", status=200, body='[{"AR2010001":', times=None), "AC-303"),
        (Fault(kind="status", status=500, times=None), "AC-301"),
        (Fault(kind="drop_before", times=None), "AC-301"),
        (Fault(kind="status", status=404, body='{"statusCode":404}', times=None), "AC-201"),
        (Fault(kind="status", status=302, times=None), "AC-303"),
        (
            Fault(
                kind="status",
                status=403,
                body="Out of call volume quota. Quota will be replenished in 01:00:01.",
                times=None,
            ),
            "AC-503",
        ),
    ],
)
async def test_errors_by_what_happened(service: Service, fault: Fault, code: str) -> None:
    service.emulator.faults.add(fault)
    error = await error_of(service)
    assert error.code == code
    if "quota" in fault.body:
        assert error.retry_after == 3601
        assert service.requests("ExportCustomer") == 1


async def test_reads_survive_one_fault(service: Service) -> None:
    async with service.client() as client:
        for kind in ("drop_before", "drop_after", "cut_body", "maintenance", "maintenance_200"):
            service.emulator.faults.add(Fault(kind=kind))  # type: ignore[arg-type]
            assert await client.export_customers(fields=["code"]) == [{"code": "0"}]


async def test_the_gateways_wish_in_words_is_obeyed(service: Service) -> None:
    body = '{"statusCode":429,"message":"Rate limit is exceeded. Try again in 900 seconds."}'
    service.emulator.faults.add(Fault(kind="status", status=429, body=body))
    error = await error_of(service)
    assert isinstance(error, WaitError)
    assert (error.code, error.retry_after) == ("AC-503", 900)


async def test_nobody_listens(service: Service) -> None:
    service.url = f"http://127.0.0.1:{free_port()}"
    error = await error_of(service)
    assert error.code == "AC-501"
    assert "127.0.0.1" in error.happened


async def test_a_refused_request_is_a_matter_of_settings(service: Service) -> None:
    async with service.client() as client:
        with pytest.raises(SettingsError, match="AC-205") as caught:
            await client.export_customers(where=where("phone").eq("03"), fields=["code"])
    assert "抽出条件に使用できない" in (caught.value.detail.vendor_message or "")


async def test_secrets_echoed_by_the_server_stay_out_of_every_text(service: Service) -> None:
    masker = Masker([DEMO_FIXED_TOKEN])
    body = f"denied for {DEMO_SUBSCRIPTION_KEY} {DEMO_FIXED_TOKEN}"
    service.emulator.faults.add(Fault(kind="status", status=418, body=body))
    error = await error_of(service, masker=masker)
    text = "".join(traceback.format_exception(error)) + str(error) + repr(error.as_dict())
    assert DEMO_SUBSCRIPTION_KEY not in text
    assert DEMO_FIXED_TOKEN not in text
    assert "denied for ********" in text

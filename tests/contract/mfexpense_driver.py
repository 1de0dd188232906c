"""Reads an emulator with the public client moneyforward-ex 1.0.0; runs in its own environment.

python mfexpense_driver.py URL ACCESS_TOKEN OFFICE RECORD -> one JSON object on stdout.
"""

import datetime as dt
import json
import sys

import moneyforward_ex
from moneyforward_ex.rest import ApiException


def main(url, token, office, record):
    configuration = moneyforward_ex.Configuration(host=url)
    configuration.access_token = token
    with moneyforward_ex.ApiClient(configuration) as client:
        journals = moneyforward_ex.ExJournalApi(client)

        def refused(**asked):
            try:
                journals.find_office_ex_journals_by_ex_transactions(office, **asked)
            except ApiException as error:
                return [error.status, json.loads(error.body)]
            return None

        def listed(find, **more):
            found, page = [], 1
            while True:
                answer = find(office, page=page, **more)
                (key,) = set(answer) - {"next", "prev"}
                found += answer[key]
                if not answer["next"]:
                    return found, page
                page += 1

        october = {
            "query_object_recognized_at_from": dt.date(2026, 10, 1),
            "query_object_recognized_at_to": dt.date(2026, 10, 31),
        }
        by_transaction, pages = listed(
            journals.find_office_ex_journals_by_ex_transactions, **october
        )
        by_report, _ = listed(journals.find_office_ex_journals_by_ex_reports, **october)
        one = journals.find_office_ex_transaction_journal(office, record)
        branch = one.ex_journal_branches[0]
        debit, credit = branch.journal_branch_sides
        masters = {
            "excises": moneyforward_ex.ExciseApi(client).find_excises,
            "depts": moneyforward_ex.DeptApi(client).find_depts,
            "ex_items": moneyforward_ex.ExItemApi(client).find_ex_items,
            "project_codes": moneyforward_ex.ProjectCodeApi(client).find_project_codes,
            "ex_destinations": moneyforward_ex.ExDestinationApi(client).find_ex_destinations,
        }
        found = {
            "offices": moneyforward_ex.OfficeApi(client).find_offices()["offices"],
            "by_transaction": by_transaction,
            "pages": pages,
            "by_report": by_report,
            "one": {
                "recognized_at": one.recognized_at.isoformat(),
                "remark": branch.remark,
                "sides": [debit.side, credit.side],
                "values": [debit.value, debit.excise_value, credit.value],
                "item": [debit.item.code, debit.item.name],
                "rate": debit.excise.rate,
                "dept": debit.dept.name,
                "credit_code": credit.item.code,
            },
            "masters": {name: listed(find)[0] for name, find in masters.items()},
            "too_long": refused(
                query_object_recognized_at_from=dt.date(2026, 7, 1),
                query_object_recognized_at_to=dt.date(2026, 10, 2),
            ),
            "backwards": refused(
                query_object_recognized_at_from=dt.date(2026, 10, 2),
                query_object_recognized_at_to=dt.date(2026, 10, 1),
            ),
        }
        client.configuration.access_token = "wrong"
        found["unknown_token"] = refused(**october)
    print(json.dumps(found))


main(*sys.argv[1:])

"""The embedded plant's MES over HTTP: tokens, pages, the virtual clock and each fault, with a plain client."""

import json
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import requests

from spc_platform.errors import PermanentError
from spc_platform.plant import Plant, PlantServer, serve
from spc_platform.plant.faults import KINDS

SECOND_EVENING = datetime(2026, 3, 24, 20, tzinfo=UTC)
"""One complete date and most of a second: enough to page across dates."""


@pytest.fixture(scope="module")
def server():
    with PlantServer(now=SECOND_EVENING) as running:
        yield running


@pytest.fixture
def mes(server):
    yield Client(server)
    server.faults.set(dict.fromkeys(KINDS, 0))


class Client:
    """A session with a token; follows next links."""

    def __init__(self, server):
        self.server = server
        self.session = requests.Session()
        self.sign_in()

    def sign_in(self):
        form = {"grant_type": "client_credentials", "client_id": "spc-platform", "client_secret": "demo-secret"}
        answer = requests.post(f"{self.server.url}/oauth/token", data=form, timeout=10)
        assert answer.status_code == 200
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer.json()

    def get(self, path):
        return self.session.get(self.server.url + path, timeout=10)

    def walk(self, resource, limit, **query):
        path = f"/api/v1/{resource}?limit={limit}" + "".join(f"&{name}={value}" for name, value in query.items())
        while path:
            answer = self.get(path)
            assert answer.status_code == 200, answer.text
            yield answer.json()
            path = answer.json()["next"]

    def admin(self, path, **body):
        return requests.post(f"{self.server.admin_url}/admin/{path}", json=body, timeout=10)


def expected(server, resource, now=SECOND_EVENING):
    """(id, rev) of every visible record, in the server's order, straight from the generator."""
    frames = [server.plant.day(resource, each).frame for each in server.plant.production_dates(now)]
    visible = pl.concat(frames).filter(pl.col("_us") <= int(now.timestamp() * 1e6)).sort("_us", "id")
    return visible.select("id", "rev").rows()


@pytest.mark.parametrize(
    ("resource", "limit"),
    [("measurements", 701), ("telemetry", 10_000), ("equipment-states", 97), ("production-counts", 1000), ("work-orders", 1)],
)
def test_pages_give_every_record_exactly_once_in_order(server, mes, resource, limit):
    pages = list(mes.walk(resource, limit))
    got = [(record["id"], record["rev"]) for page in pages for record in page["data"]]
    assert got == expected(server, resource)
    assert all(len(page["data"]) == limit for page in pages[:-1])
    assert pages[-1]["next"] is None
    assert pages[-1]["next_cursor"] is None


def test_records_updated_in_one_instant_are_split_over_pages_without_loss(server, mes):
    # All stations begin a state at 06:00:00: eight records with one updated_at.
    states = server.plant.day("equipment-states", server.plant.production_dates()[0]).frame
    assert states.filter(pl.col("_us") == states["_us"].min()).height == 8
    pages = mes.walk("equipment-states", 3)
    first = [next(pages)["data"] for _ in range(3)]
    ids = [record["id"] for page in first for record in page]
    assert len(set(ids)) == 9


def test_updated_since_is_inclusive_and_leaves_out_what_is_older(server, mes):
    every = [record for page in mes.walk("production-counts", 10_000) for record in page["data"]]
    since = every[1234]["updated_at"]
    got = [record["id"] for page in mes.walk("production-counts", 500, updated_since=since) for record in page["data"]]
    assert got == [record["id"] for record in every if record["updated_at"] >= since]
    assert every[1234]["id"] in got


def test_fields_of_the_records_are_those_of_the_site_folder(mes):
    fields = {
        "measurements": "id rev characteristic station measured_at value unit serial lot order sample deleted updated_at",
        "telemetry": "id rev signal at value unit updated_at",
        "equipment-states": "id rev station state reason start end deleted updated_at",
        "production-counts": "id rev station order product counted_at good scrap rework reason deleted updated_at",
        "work-orders": "id rev line product planned start end deleted updated_at",
    }
    for resource, names in fields.items():
        record = mes.get(f"/api/v1/{resource}?limit=1").json()["data"][0]
        assert sorted(record) == sorted(names.split()), resource


def test_requests_without_a_valid_token_are_refused(server):
    url = f"{server.url}/api/v1/measurements"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers={"Authorization": "Bearer made-up"}, timeout=10).status_code == 401


def test_wrong_credentials_get_no_token(server):
    url = f"{server.url}/oauth/token"
    form = {"grant_type": "client_credentials", "client_id": "spc-platform", "client_secret": "wrong"}
    assert requests.post(url, data=form, timeout=10).status_code == 401
    assert requests.post(url, data={**form, "grant_type": "password"}, timeout=10).status_code == 400
    basic = requests.post(url, data={"grant_type": "client_credentials"}, auth=("spc-platform", "demo-secret"), timeout=10)
    assert basic.json()["token_type"] == "Bearer"


def test_a_token_expires_after_its_lifetime():
    with PlantServer(now=SECOND_EVENING, token_lifetime_s=0.3) as server:
        mes = Client(server)
        assert mes.sign_in()["expires_in"] == 0.3
        assert mes.get("/api/v1/work-orders").status_code == 200
        time.sleep(0.35)
        assert mes.get("/api/v1/work-orders").status_code == 401
        mes.sign_in()
        assert mes.get("/api/v1/work-orders").status_code == 200


def test_too_many_requests_are_told_when_to_come_back():
    with PlantServer(now=SECOND_EVENING, rate_limit_per_s=3) as server:
        mes = Client(server)
        answers = [mes.get("/api/v1/work-orders?limit=1") for _ in range(6)]
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    assert answers[5].status_code == 429
    assert float(answers[5].headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=ten", "cursor=nonsense", "updated_since=yesterday", "updated_since=2026-03-24"]
)
def test_a_wrong_question_is_answered_400(mes, query):
    answer = mes.get(f"/api/v1/measurements?{query}")
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_an_unknown_resource_is_answered_404_with_the_known_ones(mes):
    answer = mes.get("/api/v1/measurement")
    assert answer.status_code == 404
    assert "measurements" in answer.json()["detail"]


def test_a_correction_is_sent_only_after_its_updated_at():
    plant = Plant()
    correction = plant.truth("corrections").filter(kind="changed").row(0, named=True)
    before = correction["updated_at"] - timedelta(minutes=30)
    since = before.strftime("%Y-%m-%dT%H:%M:%SZ")
    with PlantServer(plant=plant, now=before) as server:
        mes = Client(server)

        def revisions():
            pages = mes.walk("measurements", 10_000, updated_since=since)
            return [r["rev"] for page in pages for r in page["data"] if r["id"] == correction["record_id"]]

        assert revisions() == []
        assert mes.admin("advance", hours=1).status_code == 200
        assert revisions() == [2]


def test_advancing_the_clock_shows_new_records_under_an_old_cursor():
    with PlantServer(now=SECOND_EVENING) as server:
        mes = Client(server)
        before = expected(server, "production-counts")
        pages = list(mes.walk("production-counts", 500))
        newest = pages[-1]["data"][-1]["updated_at"]
        assert sum(len(page["data"]) for page in pages) == len(before)
        told = mes.admin("advance", hours=24).json()["now"]
        assert told.startswith("2026-03-25T20:00:00")
        after = expected(server, "production-counts", SECOND_EVENING + timedelta(hours=24))
        news = [r["id"] for page in mes.walk("production-counts", 500, updated_since=newest) for r in page["data"]]
        assert len(after) > len(before) + 1000
        assert set(news) >= {record_id for record_id, _ in after} - {record_id for record_id, _ in before}


def test_the_clock_cannot_go_back(mes):
    assert mes.admin("advance", hours=-1).status_code == 400
    assert requests.get(f"{mes.server.admin_url}/admin/clock", timeout=10).json()["now"] == "2026-03-24T20:00:00.000Z"


def test_a_running_clock_moves_by_itself():
    with PlantServer(now=SECOND_EVENING, clock_rate=3600.0) as server:
        time.sleep(0.05)
        assert server.clock.now() > SECOND_EVENING + timedelta(minutes=2)


def test_the_admin_port_tells_the_truth(server, mes):
    server.plant.now = server.clock.now()
    url = f"{server.admin_url}/admin/truth"
    gaps = requests.get(f"{url}/telemetry_gaps", timeout=10).json()
    assert len(gaps) == server.plant.truth("telemetry_gaps").height > 0
    elements = requests.get(f"{url}/oee_elements", timeout=10).json()
    assert {row["production_date"] for row in elements} == {"2026-03-23"}
    assert requests.get(f"{url}/secrets", timeout=10).status_code == 404


def test_fault_truncated_json_is_a_whole_answer_with_half_the_json(mes):
    mes.admin("faults", truncated_json=1)
    broken = mes.get("/api/v1/measurements?limit=100")
    assert broken.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken.content)
    assert len(mes.get("/api/v1/measurements?limit=100").json()["data"]) == 100


def test_fault_truncated_body_ends_before_its_stated_length(mes):
    mes.admin("faults", truncated_body=1)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
        mes.get("/api/v1/measurements?limit=100")
    assert len(mes.get("/api/v1/measurements?limit=100").json()["data"]) == 100


def test_fault_duplicate_page_sends_a_page_twice_under_another_cursor(server, mes):
    mes.admin("faults", duplicate_page={"count": 1, "skip": 1})
    pages = list(mes.walk("production-counts", 1000))
    assert pages[1]["data"] == pages[2]["data"]
    assert pages[0]["next_cursor"] != pages[1]["next_cursor"]
    got = [record["id"] for index, page in enumerate(pages) if index != 2 for record in page["data"]]
    assert got == [record_id for record_id, _ in expected(server, "production-counts")]


def test_fault_repeated_cursor_names_the_same_cursor_again(mes):
    mes.admin("faults", repeated_cursor=1)
    pages = mes.walk("production-counts", 100)
    cursors = [next(pages)["next_cursor"] for _ in range(3)]
    assert cursors[0] == cursors[1] != cursors[2]


def test_fault_expire_token_is_a_401_in_the_middle_of_a_run(mes):
    mes.admin("faults", expire_token={"count": 1, "skip": 1})
    assert mes.get("/api/v1/work-orders").status_code == 200
    assert mes.get("/api/v1/work-orders").status_code == 401
    assert mes.get("/api/v1/work-orders").status_code == 401
    mes.sign_in()
    assert mes.get("/api/v1/work-orders").status_code == 200


def test_fault_rate_limit_says_how_long_to_wait(mes):
    mes.admin("faults", rate_limit={"count": 1, "seconds": 2})
    limited = mes.get("/api/v1/work-orders")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "2")
    assert mes.get("/api/v1/work-orders").status_code == 200


def test_fault_server_error_comes_as_a_burst(mes):
    mes.admin("faults", server_error={"count": 3, "status": 502})
    assert [mes.get("/api/v1/work-orders").status_code for _ in range(4)] == [502, 502, 502, 200]


def test_fault_html_200_is_a_login_page(mes):
    mes.admin("faults", html_200=1)
    answer = mes.get("/api/v1/work-orders")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert b"Sign in" in answer.content


def test_fault_slow_waits_before_it_answers(mes):
    mes.admin("faults", slow={"count": 1, "seconds": 0.4})
    begun = time.monotonic()
    assert mes.get("/api/v1/work-orders").status_code == 200
    assert time.monotonic() - begun >= 0.4


def test_fault_foreign_next_link_names_another_host(mes):
    mes.admin("faults", foreign_next_link=1)
    assert mes.get("/api/v1/work-orders?limit=1").json()["next"].startswith("http://mes.invalid/")
    assert mes.get("/api/v1/work-orders?limit=1").json()["next"].startswith("/api/v1/work-orders?")


def test_a_fault_can_be_kept_to_one_resource(mes):
    mes.admin("faults", server_error={"count": 1, "resource": "telemetry"})
    assert mes.get("/api/v1/work-orders").status_code == 200
    assert mes.get("/api/v1/telemetry?limit=1").status_code == 503


@pytest.mark.parametrize("wanted", [{"lightning": 1}, {"slow": {"count": 1, "sekunden": 3}}, {"slow": -1}, {"slow": "often"}])
def test_an_unknown_fault_is_refused_and_changes_nothing(mes, wanted):
    answer = mes.admin("faults", server_error=1, **wanted)
    assert answer.status_code == 400
    assert mes.get("/api/v1/work-orders").status_code == 200


def test_values_that_are_no_numbers_are_null_or_by_option_bare_nan_tokens(mes):
    bad = mes.server.plant.truth("bad_records").filter(kind="nan")["record_id"].to_list()
    sent = {r["id"]: r["value"] for page in mes.walk("measurements", 10_000) for r in page["data"]}
    assert [sent[record_id] for record_id in bad] == [None] * len(bad)
    with PlantServer(now=SECOND_EVENING, nan_tokens=True) as server:
        mes = Client(server)
        first = mes.get("/api/v1/measurements?limit=10000")
        bodies = [first.content, mes.get(first.json()["next"]).content]
        reasons = server.plant.truth("bad_records").filter(kind="nan")["expected_reason"].unique().to_list()
    assert sum(body.count(b'"value":NaN') for body in bodies) == len(bad) > 0
    assert reasons == ["value:NOT_FINITE"]


def test_it_listens_on_loopback_only(server):
    assert server.url.startswith("http://127.0.0.1:")
    assert server.admin_url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("option", ["port", "admin_port"])
def test_a_taken_port_is_named_with_its_remedy(option):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PermanentError, match=f"127.0.0.1:{port}.*--{option.replace('_', '-')}"):
            PlantServer(**{option: port})


def test_serve_takes_the_ports_of_the_site_folder_unless_told_otherwise():
    with serve(0, 0, now=SECOND_EVENING) as server:
        assert Client(server).get("/api/v1/work-orders").status_code == 200


def test_the_command_serves_until_sigterm_and_refuses_a_taken_port():
    command = [sys.executable, "-m", "spc_platform.plant", "--admin-port", "0", "--port"]
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline()
            url = said.split()[2].rstrip(",")
            assert requests.get(f"{url}/api/v1/work-orders", timeout=10).status_code == 401
            second = subprocess.run([*command, url.rsplit(":", 1)[1]], capture_output=True, text=True, timeout=30, check=False)
            assert second.returncode == 1
            assert "--port" in second.stderr
            assert "Traceback" not in second.stderr
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""

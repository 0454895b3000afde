"""N1-N3 of the Elastic spec (7.7): connectors as the assistant sees them."""

from tests.dialects.elastic.conformance.kit import INTERNAL, Kibana

CONNECTORS = f"{INTERNAL}/connectors"


async def test_N1_the_list_holds_what_is_preconfigured_and_what_was_made(kibana: Kibana) -> None:
    before = await kibana.get(CONNECTORS)
    assert before.status == 200
    shown = {each["connectorId"]: each for each in before.json}
    assert {key for key, each in shown.items() if not each["isPreconfigured"]} == {kibana.connector_id}
    mine = shown[kibana.connector_id]
    assert (mine["type"], mine["name"], mine["isInferenceEndpoint"]) == (".gen-ai", "llm", False)
    assert mine["config"] == {"apiProvider": "OpenAI", "apiUrl": kibana.llm.url}
    assert mine["capabilities"] == {}  # nobody said how much the model takes
    assert b"my-api-key" not in before.body
    made = await kibana.connect()
    after = (await kibana.get(CONNECTORS)).json
    assert {each["connectorId"] for each in after} == shown.keys() | {made}


async def test_N1_one_that_is_no_model_is_not_listed(kibana: Kibana) -> None:
    body = {"name": "log", "connector_type_id": ".server-log"}
    made = (await kibana.send("POST", "/api/actions/connector", body, who="admin")).json["id"]
    assert made not in {each["connectorId"] for each in (await kibana.get(CONNECTORS)).json}
    assert (await kibana.get(f"{CONNECTORS}/{made}")).status == 404


async def test_N2_one_is_read_by_its_id(kibana: Kibana) -> None:
    answer = await kibana.get(f"{CONNECTORS}/{kibana.connector_id}")
    assert (answer.status, answer.json["connectorId"]) == (200, kibana.connector_id)
    assert (await kibana.get(f"{CONNECTORS}/missing")).status == 404


async def test_N3_a_viewer_may_not(kibana: Kibana) -> None:
    for path in (CONNECTORS, f"{CONNECTORS}/{kibana.connector_id}"):
        assert (await kibana.get(path, who="viewer")).status == 403

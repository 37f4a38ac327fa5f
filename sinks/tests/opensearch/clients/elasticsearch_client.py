"""Drives the stand-in with elasticsearch-py, which refuses a server that does not say that it is Elasticsearch. Ends with an
error where the client does not find what it expects."""

import sys

from elasticsearch import Elasticsearch, BadRequestError, NotFoundError, helpers

client = Elasticsearch(sys.argv[1], http_compress=len(sys.argv) > 2)

info = client.info()
assert info["version"]["number"].startswith("9."), info
client.indices.create(index="usage", mappings={"properties": {"n": {"type": "long"}}})
assert client.indices.exists(index="usage")
assert not client.indices.exists(index="other")

documents = ({"_index": "usage", "_id": str(n), "n": n} for n in range(1000))
assert helpers.bulk(client, documents, chunk_size=100) == (1000, [])
client.indices.refresh(index="usage")
assert client.count(index="usage")["count"] == 1000
assert client.get(index="usage", id="7")["_source"] == {"n": 7}


def versioned(version, version_type="external", op="index"):
    action = {"_op_type": op, "_index": "usage", "_id": "v", "version": version, "version_type": version_type}
    if op != "delete":
        action["n"] = version
    ok, errors = helpers.bulk(client, [action], raise_on_error=False)
    return "done" if ok else errors[0][op]["status"]


assert versioned(5) == "done"
assert client.get(index="usage", id="v")["_version"] == 5
assert versioned(5) == 409
assert versioned(4, "external_gte") == 409
assert versioned(5, "external_gte") == "done"
assert versioned(6, op="delete") == "done"
assert versioned(6) == 409
assert versioned(7) == "done"

ok, errors = helpers.bulk(client, [
    {"_index": "usage", "_id": "good", "n": 1},
    {"_index": "usage", "_id": "bad", "n": "x"},
], raise_on_error=False)
assert ok == 1 and errors[0]["index"]["error"]["type"] == "document_parsing_exception", errors

client.indices.create_data_stream(name="logs")
log = {"_op_type": "create", "_index": "logs", "_id": "1", "@timestamp": 0}
assert helpers.bulk(client, [log]) == (1, [])
ok, errors = helpers.bulk(client, [log], raise_on_error=False)
assert errors[0]["create"]["status"] == 409, errors
resolved = client.indices.resolve_index(name="logs")
assert [stream["name"] for stream in resolved["data_streams"]] == ["logs"], resolved

answer = client.bulk(operations=[{"index": {"_index": "usage", "_id": "a"}}, {"n": 1}], filter_path="errors,items.*.status")
assert answer.body == {"errors": False, "items": [{"index": {"status": 201}}]}, answer
try:
    client.bulk(operations=[{"index": {"_index": "usage", "_ids": "a"}}, {"n": 1}])
except BadRequestError as error:
    assert "unknown parameter [_ids]" in str(error), error
else:
    raise AssertionError("it was taken")
try:
    client.get(index="usage", id="no")
except NotFoundError:
    pass
else:
    raise AssertionError("it was found")
print("elasticsearch-py is served")

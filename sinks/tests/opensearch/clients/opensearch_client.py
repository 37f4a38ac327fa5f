"""Drives the stand-in with opensearch-py, as a program that writes to OpenSearch would. Ends with an error where the client
does not find what it expects of a server."""

import sys

from opensearchpy import OpenSearch, helpers
from opensearchpy.exceptions import ConflictError, NotFoundError, RequestError

client = OpenSearch(sys.argv[1], http_compress=len(sys.argv) > 2)

info = client.info()
assert info["version"]["distribution"] == "opensearch", info
assert client.ping()
client.indices.create(index="usage", body={"mappings": {"properties": {"n": {"type": "long"}}}})
assert client.indices.exists(index="usage")
assert not client.indices.exists(index="other")

# The helpers read per-item results.
documents = ({"_index": "usage", "_id": str(n), "n": n} for n in range(1000))
assert helpers.bulk(client, documents, chunk_size=100) == (1000, [])
client.indices.refresh(index="usage")
assert client.count(index="usage")["count"] == 1000
assert client.get(index="usage", id="7")["_source"] == {"n": 7}

# External versions.
def versioned(version, version_type="external", op="index"):
    action = {"_op_type": op, "_index": "usage", "_id": "v", "version": version, "version_type": version_type}
    if op != "delete":
        action["n"] = version
    ok, errors = helpers.bulk(client, [action], raise_on_error=False)
    return "done" if ok else errors[0][op]["status"]

assert versioned(5) == "done"
assert client.get(index="usage", id="v")["_version"] == 5
assert versioned(5) == 409
assert versioned(4) == 409
assert versioned(4, "external_gte") == 409
assert versioned(5, "external_gte") == "done"
assert versioned(6, op="delete") == "done"
assert versioned(6) == 409
assert versioned(7) == "done"
assert client.get(index="usage", id="v")["_source"] == {"n": 7}

# What is created is created once.
create = {"_op_type": "create", "_index": "usage", "_id": "once", "n": 1}
assert helpers.bulk(client, [create]) == (1, [])
ok, errors = helpers.bulk(client, [create], raise_on_error=False)
assert errors[0]["create"]["error"]["type"] == "version_conflict_engine_exception", errors
assert "document already exists (current version [1])" in errors[0]["create"]["error"]["reason"], errors

# One bad document leaves the others alone.
ok, errors = helpers.bulk(client, [
    {"_index": "usage", "_id": "good", "n": 1},
    {"_index": "usage", "_id": "bad", "n": "x"},
    {"_op_type": "delete", "_index": "usage", "_id": "nobody"},
], raise_on_error=False)
assert ok == 1, (ok, errors)
assert errors[0]["index"]["status"] == 400 and errors[0]["index"]["error"]["type"] == "mapper_parsing_exception", errors
assert errors[1]["delete"]["status"] == 404 and errors[1]["delete"]["result"] == "not_found", errors

# Data streams and aliases.
client.indices.create_data_stream(name="logs")
log = {"_op_type": "create", "_index": "logs", "_id": "1", "@timestamp": 0}
assert helpers.bulk(client, [log]) == (1, [])
ok, errors = helpers.bulk(client, [log, {"_index": "logs", "_id": "2", "@timestamp": 0}], raise_on_error=False)
assert [list(error.values())[0]["status"] for error in errors] == [409, 400], errors
client.indices.update_aliases(body={"actions": [{"add": {"index": "usage", "alias": "current"}}]})
body = '{"index":{"_index":"current","_id":"a"}}\n{"n":1}\n'
answer = client.bulk(body=body, params={"require_alias": "true"})
assert not answer["errors"], answer
body = '{"index":{"_index":"usage","_id":"a"}}\n{"n":1}\n'
assert client.bulk(body=body, params={"require_alias": "true"})["items"][0]["index"]["status"] == 404
resolved = client.indices.resolve_index(name="logs")
assert [stream["name"] for stream in resolved["data_streams"]] == ["logs"], resolved

# filter_path leaves what was asked for.
answer = client.bulk(body=body, filter_path="errors,items.*.status")
assert answer == {"errors": False, "items": [{"index": {"status": 200}}]}, answer

# What is wrong with a whole call.
def refused(body, **params):
    try:
        client.transport.perform_request("POST", "/_bulk", body=body, params=params, headers={"content-type": "application/x-ndjson"})
    except RequestError as error:
        return error.info["error"]["reason"]
    raise AssertionError("it was taken: " + repr(body))

assert "terminated by a newline" in refused('{"index":{"_index":"usage","_id":"a"}}\n{"n":1}')
assert "unknown parameter [_ids]" in refused('{"index":{"_index":"usage","_ids":"a"}}\n{"n":1}\n')
assert "expected a simple value" in refused('{"index":{"_index":["usage"]}}\n{"n":1}\n')
assert "[upsert]" in refused('{"upsert":{"_index":"usage"}}\n{"n":1}\n')
assert "no longer than 512 bytes" in refused('{"index":{"_index":"usage","_id":"%s"}}\n{"n":1}\n' % ("x" * 513))
assert "internal versioning" in refused('{"index":{"_index":"usage","_id":"a","version":1}}\n{"n":1}\n')
assert "create operations only" in refused('{"create":{"_index":"usage","_id":"a","version":1,"version_type":"external"}}\n{"n":1}\n')
assert "unrecognized parameter: [no]" in refused('{"index":{"_index":"usage","_id":"a"}}\n{"n":1}\n', no="1")
assert "request body is required" in refused("")
for call, error in [(lambda: client.get(index="usage", id="no"), NotFoundError), (lambda: client.count(index="other"), NotFoundError)]:
    try:
        call()
    except error:
        continue
    raise AssertionError("it was found")
assert ConflictError
print("opensearch-py is served")

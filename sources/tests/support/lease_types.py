"""Checks the rows of a lease table of the Kinesis Client Library with boto3, as the library's own serializer writes them.

python lease_types.py ENDPOINT TABLE: prints, as JSON, how many rows have each attribute; ends with 1 at an attribute of
another type, one that the library does not know, or a row that lacks what each has to have.
"""

import collections
import json
import sys

import boto3

TYPES = {
    "S": "leaseKey leaseOwner checkpointOwner checkpoint pendingCheckpoint startingHashKey endingHashKey entityType",
    "N": "leaseCounter ownerSwitchesSinceCheckpoint checkpointSubSequenceNumber pendingCheckpointSubSequenceNumber"
    " throughputKBps",
    "SS": "parentShardId childShardIds",
    "B": "pendingCheckpointState",
}
TYPE_OF = {name: kind for kind, names in TYPES.items() for name in names.split()}
EACH_HAS = {"leaseKey", "leaseCounter", "checkpoint", "checkpointSubSequenceNumber", "ownerSwitchesSinceCheckpoint"}
SENTINELS = {"TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"}
HASH_KEYS = 2**128


def check(row):
    key = row.get("leaseKey")
    for name, value in row.items():
        (kind,) = value
        if TYPE_OF.get(name) != kind:
            sys.exit(f"{name} of {key} is {value}, and not of the type {TYPE_OF.get(name)}")
    missing = EACH_HAS - row.keys()
    if missing:
        sys.exit(f"{key} has no {missing}")
    checkpoint = row["checkpoint"]["S"]
    if checkpoint not in SENTINELS and not checkpoint.isdecimal():
        sys.exit(f"{key} has the checkpoint {checkpoint}")
    for name in row.keys() & {"leaseCounter", "ownerSwitchesSinceCheckpoint", "checkpointSubSequenceNumber"}:
        if int(row[name]["N"]) < 0:
            sys.exit(f"{key} has the {name} {row[name]}")
    for name in row.keys() & {"startingHashKey", "endingHashKey"}:
        if not 0 <= int(row[name]["S"]) < HASH_KEYS:
            sys.exit(f"{key} has the {name} {row[name]}")


def main(endpoint, table):
    client = boto3.client(
        "dynamodb", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    found = collections.Counter()
    for page in client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for row in page["Items"]:
            check(row)
            found.update(row.keys())
    print(json.dumps(found))


main(*sys.argv[1:])

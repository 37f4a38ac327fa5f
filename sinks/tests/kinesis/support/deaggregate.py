"""Opens aggregated records with the package aws_kinesis_agg, as a reader of another language would.

Reads one JSON object a line, {"key": …, "data": base64}; prints for each a JSON array of the user records in it.
"""

import base64
import json
import sys

from aws_kinesis_agg.deaggregator import iter_deaggregate_records

for number, line in enumerate(sys.stdin):
    put = json.loads(line)
    record = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": str(number),
            "approximateArrivalTimestamp": 0,
            "partitionKey": put["key"],
            "data": put["data"],
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": str(number),
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn",
        "awsRegion": "us-east-1",
        "eventSourceARN": "arn",
    }
    opened = []
    for user in iter_deaggregate_records([record]):
        kinesis = user["kinesis"]
        data = kinesis["data"]
        opened.append({
            "key": kinesis["partitionKey"],
            "hash_key": kinesis.get("explicitHashKey"),
            "data": data if isinstance(data, str) else data.decode(),
        })
    print(json.dumps(opened))

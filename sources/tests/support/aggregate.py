"""Aggregates random records with the package aws_kinesis_agg, as a Kinesis Producer Library would.

Usage: aggregate.py SEED COUNT. Prints one JSON object a line: the aggregate in base64, and the records that went in.
"""

import base64
import json
import random
import sys

from aws_kinesis_agg.aggregator import RecordAggregator


def main(seed, count):
    chance = random.Random(seed)
    for _ in range(count):
        aggregator = RecordAggregator()
        records = []
        for _ in range(chance.randint(1, 60)):
            key = chance.choice(["acme", "globex", "κλειδί", "k" * chance.randint(1, 256)])
            hash_key = str(chance.getrandbits(128)) if chance.random() < 0.5 else None
            data = chance.randbytes(chance.choice([0, 1, 7, 300]))
            if aggregator.add_user_record(key, data, hash_key):
                sys.exit("the records do not fit into one aggregate")
            records.append({"key": key, "hash_key": hash_key, "data": base64.b64encode(data).decode()})
        _, _, aggregate = aggregator.clear_and_get().get_contents()
        print(json.dumps({"aggregate": base64.b64encode(aggregate).decode(), "records": records}))


main(int(sys.argv[1]), int(sys.argv[2]))

"""Reads events of OpenLineage with its own client: `lineage.py FILE` prints the number of events, or what is wrong with one.

The client's classes check times, ids and the fields of OpenLineage's facets; the names of datasets are compared with those that
its naming helpers make.
"""

import json
import sys
from urllib.parse import urlsplit

from openlineage.client import event_v2, facet_v2
from openlineage.client.naming import dataset as naming

FACETS = {
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
    "sql": facet_v2.sql_job.SQLJobFacet,
}


def facets(found: dict) -> dict:
    """OpenLineage's own facets as its client has them; the schemas that they name must be the client's."""
    made = {}
    for name, fields in found.items():
        assert fields["_producer"].startswith("https://"), name
        assert fields["_schemaURL"].startswith("https://"), name
        if name.startswith("kafkaSql_"):
            continue
        known = FACETS[name](**{key: value for key, value in fields.items() if key[0] != "_"})
        assert known._schemaURL == fields["_schemaURL"], f"{fields['_schemaURL']} is not {known._schemaURL}"
        made[name] = known
    return made


def dataset(kind, of: str, found: dict):
    space = urlsplit(found["namespace"])
    if space.scheme == "kafka":
        expected = naming.Kafka(space.hostname, str(space.port), found["name"])
    elif space.scheme == "postgres":
        expected = naming.Postgres(space.hostname, str(space.port), *found["name"].split("."))
    else:
        expected = naming.LocalFileSystem(found["name"])
    assert found["namespace"] == expected.get_namespace(), found
    assert found["name"] == expected.get_name(), found
    return kind(namespace=found["namespace"], name=found["name"], **{of: facets(found[of])})


def main():
    events = [json.loads(line) for line in open(sys.argv[1])]
    for event in events:
        made = event_v2.RunEvent(
            eventTime=event["eventTime"],
            eventType=event_v2.RunState(event["eventType"]),
            run=event_v2.Run(runId=event["run"]["runId"], facets=facets(event["run"]["facets"])),
            job=event_v2.Job(event["job"]["namespace"], event["job"]["name"], facets(event["job"]["facets"])),
            inputs=[dataset(event_v2.InputDataset, "inputFacets", i) for i in event["inputs"]],
            outputs=[dataset(event_v2.OutputDataset, "outputFacets", o) for o in event["outputs"]],
            producer=event["producer"],
        )
        assert made.schemaURL == event["schemaURL"], f"{event['schemaURL']} is not {made.schemaURL}"
    print(len(events))


main()

// A client in TypeScript, which the tests check against the types of the OpenAPI document.

import type { components, paths } from "./api";

type Run = components["schemas"]["Drift"];
type Experiment = components["schemas"]["Experiment"];

// A response always holds these fields. They would not be assignable if they could be undefined.
export function verdictOf(run: Run): [boolean, string, string[], string | null] {
  return [run.drift_detected, run.verdict, run.tags, run.model_version];
}

export function describe(experiment: Experiment): [string, boolean, number, string | null] {
  return [experiment.description, experiment.public, experiment.permissions.length, experiment.archived_at];
}

// A PATCH names what it changes, and a search needs no body.
type Patch = paths["/api/v1/experiment/{experiment_id}/drift/{drift_id}"]["patch"]["requestBody"];
export const change: NonNullable<Patch>["content"]["application/json"] = { tags: ["weekly"] };

type Search = paths["/api/v1/experiment/search"]["post"]["requestBody"];
export const everything: Search = undefined;

// A run states its status and its model.
// @ts-expect-error
export const incomplete: components["schemas"]["DriftRequest"] = { model: "credit-7" };

// SPDX-License-Identifier: Apache-2.0
// Faults as the Status objects of the Kubernetes API (API conventions, "Response Status Kind"): HTTP code and reason per
// code of faults.ts, the object concerned and the refused fields in details. Anything unknown is a 500 without internals.
import { Fault } from "../base/fault.ts";
import { fieldErrors } from "./faults.ts";

const HTTP: Record<string, { code: number; reason: string }> = {
  API_BAD_REQUEST: { code: 400, reason: "BadRequest" },
  API_UNAUTHORIZED: { code: 401, reason: "Unauthorized" },
  API_FORBIDDEN: { code: 403, reason: "Forbidden" },
  API_NOT_FOUND: { code: 404, reason: "NotFound" },
  API_NO_ROUTE: { code: 404, reason: "NotFound" },
  API_METHOD: { code: 405, reason: "MethodNotAllowed" },
  API_NOT_ACCEPTABLE: { code: 406, reason: "NotAcceptable" },
  API_EXISTS: { code: 409, reason: "AlreadyExists" },
  API_CONFLICT: { code: 409, reason: "Conflict" },
  API_GONE: { code: 410, reason: "Expired" },
  API_TOO_LARGE: { code: 413, reason: "RequestEntityTooLarge" },
  API_URL_TOO_LONG: { code: 414, reason: "RequestURITooLong" },
  API_MEDIA_TYPE: { code: 415, reason: "UnsupportedMediaType" },
  API_INVALID: { code: 422, reason: "Invalid" },
  API_TOO_MANY: { code: 429, reason: "TooManyRequests" },
};

/** A Status object of the Kubernetes API. */
export interface Status {
  kind: "Status";
  apiVersion: "v1";
  metadata: Record<string, string>;
  status: "Success" | "Failure";
  message?: string;
  reason?: string;
  details?: Record<string, unknown>;
  code: number;
}

/** The Status of a failed request. Errors that are no API fault become 500 with their message only. */
export function failure(thrown: unknown): Status {
  const fault = Fault.from(thrown, "API_INTERNAL");
  const http = HTTP[fault.code] ?? { code: 500, reason: "InternalError" };
  const { name, group, kind, resource } = fault.context;
  const causes = fieldErrors(fault).map((e) => ({ reason: e.reason, message: e.message, field: e.field }));
  const details: Record<string, unknown> = {};
  if (typeof name === "string" && name) details.name = name;
  if (typeof group === "string" && group) details.group = group;
  if (kind ?? resource) details.kind = kind ?? resource;
  if (causes.length > 0) details.causes = causes;
  if (fault.code === "API_TOO_MANY") details.retryAfterSeconds = 1;
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: fault.detail,
    reason: http.reason,
    ...(Object.keys(details).length > 0 ? { details } : {}),
    code: http.code,
  };
}

/** The Status of a successful request that has no object to return. */
export function success(details: Record<string, unknown>, code = 200): Status {
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details, code };
}

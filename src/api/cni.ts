// SPDX-License-Identifier: Apache-2.0
// The agent's side of the CNI plugin: each request checked, done once per container interface at a time, and answered
// with a result or a CNI error. The endpoint engine stands behind CniBackend; DELs queued while the agent was down are
// done before the first ADD. For the agent's socket.
import { rmSync } from "node:fs";
import * as z from "zod";
import { SerialQueue, sleep } from "../base/async.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { discardDelete, queuedDeletes } from "./cni-deletes.ts";
import { isContainerId, isInterfaceName, isNetnsPath, isNetworkName, isPodName } from "./cni-names.ts";
import {
  CNI_VERSIONS,
  type CniAttachment,
  CniCode,
  type CniErrorBody,
  type CniRequest,
} from "./cni-protocol.ts";
import { cniResult, type PodInterface, resultDifferences } from "./cni-result.ts";

/** What the handler needs of the node. Every call is idempotent. */
export interface CniBackend {
  /** Why pods cannot be added now, in words for the runtime's log; undefined when they can. */
  notReady(): string | undefined;
  /**
   * Gives the pod addresses and its device; the same attachment again gives what it has.
   * @throws Fault; then nothing of it is left behind
   */
  add(request: CniRequest): PodInterface | Promise<PodInterface>;
  /** Removes device, map entries and addresses; false if there was nothing. */
  remove(attachment: CniAttachment): boolean | Promise<boolean>;
  /** The pod's interface and what is wrong with it; undefined if the attachment is unknown. */
  check(
    request: CniRequest,
  ):
    | { pod: PodInterface; problems: string[] }
    | undefined
    | Promise<{ pod: PodInterface; problems: string[] } | undefined>;
  /** Attachments made for a network, by its name in the CNI configuration. */
  attachments(network: string): readonly CniAttachment[];
}

/** HTTP status and JSON body. */
export interface CniAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** Faults that runtimes get under a code of their own; the others are 11 if a retry can help, else 101. */
const FAULT_CODES: Readonly<Record<string, number>> = {
  IPAM_EXHAUSTED: CniCode.ADDRESSES_EXHAUSTED,
  IPAM_NO_CIDR: CniCode.TRY_AGAIN_LATER,
};

const attachmentSchema = z.object({ containerId: z.string().max(200), ifName: z.string().max(15) });

/** Empty where a command has no use for it. */
const optional = (holds: (text: string) => boolean): z.ZodType<string> =>
  z.string().refine((text) => text === "" || holds(text), "not allowed as a name here");

const requestSchema = z.object({
  containerId: optional(isContainerId),
  ifName: optional(isInterfaceName),
  netns: optional(isNetnsPath),
  args: z.record(z.string(), z.string()),
  podName: optional(isPodName),
  podNamespace: optional(isPodName),
  config: z.looseObject({
    cniVersion: z.enum(CNI_VERSIONS as [string]),
    name: z.string().refine(isNetworkName, "not a network's name"),
    type: z.string(),
  }),
  prevResult: z.exactOptional(z.unknown()),
  validAttachments: z.exactOptional(z.array(attachmentSchema)),
});

function failure(status: number, body: CniErrorBody): CniAnswer {
  return { status, body };
}

function faultAnswer(thrown: unknown): CniAnswer {
  const fault = Fault.from(thrown);
  const code = FAULT_CODES[fault.code] ?? (fault.retriable ? CniCode.TRY_AGAIN_LATER : CniCode.WIRING_FAILED);
  return failure(fault.retriable ? 503 : 500, { code, msg: fault.detail, details: fault.code });
}

/** An ADD waits this long for an agent that is starting; the plugin gives an agent 5 s in all. */
const START_PATIENCE_MS = 3000;

const DONE: CniAnswer = { status: 200, body: {} };

/** Answers POST /v1/cni/<command>. */
export class CniHandler {
  readonly #backend: CniBackend;
  readonly #runDir: string;
  readonly #log: Log;
  readonly #started: Promise<unknown>;
  /** Operations on one interface of one container happen in order of arrival. */
  readonly #queues = new Map<string, { queue: SerialQueue; waiting: number }>();
  #drained: Promise<unknown> = Promise.resolve();

  /** `started` resolves when the agent that has just been started can add pods; ADDs that come earlier wait a little. */
  constructor(options: { backend: CniBackend; runDir: string; log: Log; started?: Promise<unknown> }) {
    this.#started = options.started ?? Promise.resolve();
    this.#backend = options.backend;
    this.#runDir = options.runDir;
    this.#log = options.log;
  }

  /**
   * Works off the DELs that came while the agent was down. Call it once the socket listens (the plugin tries the
   * socket again after it queued); ADDs wait for it. Returns how many were done.
   */
  drainDeletes(): Promise<number> {
    const done = this.#drain();
    this.#drained = done;
    return done;
  }

  /** Never throws; `body` may be anything that JSON can hold. */
  async handle(command: string, body: unknown): Promise<CniAnswer> {
    const parsed = requestSchema.safeParse(body);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      const details = `${issue?.path.join(".")}: ${issue?.message}`;
      return failure(400, {
        code: CniCode.DECODING_FAILURE,
        msg: "request of the CNI plugin not understood",
        details,
      });
    }
    const request = parsed.data as CniRequest;
    try {
      if (command === "status") return this.#status();
      if (command === "gc") return await this.#gc(request);
      if (request.containerId === "" || request.ifName === "") {
        return failure(400, { code: CniCode.INVALID_ENVIRONMENT, msg: "no container id or interface name" });
      }
      if (command === "add") return await this.#add(request);
      if (command === "del") return await this.#del(request);
      if (command === "check") return await this.#inOrder(request, () => this.#check(request));
    } catch (thrown) {
      this.#log.warn({ err: thrown, command, containerId: request.containerId }, "CNI request failed");
      return faultAnswer(thrown);
    }
    return failure(404, { code: CniCode.INVALID_ENVIRONMENT, msg: `no CNI command "${command}"` });
  }

  async #inOrder<T>(attachment: CniAttachment, job: () => T | Promise<T>): Promise<T> {
    const key = `${attachment.containerId}/${attachment.ifName}`;
    const entry = this.#queues.get(key) ?? { queue: new SerialQueue(), waiting: 0 };
    this.#queues.set(key, entry);
    entry.waiting++;
    try {
      return await entry.queue.run(job);
    } finally {
      if (--entry.waiting === 0) this.#queues.delete(key);
    }
  }

  async #untilStarted(): Promise<void> {
    // A timer that is left running would keep a process alive that is to end.
    const enough = new AbortController();
    const patience = sleep(START_PATIENCE_MS, enough.signal).catch(() => undefined);
    await Promise.race([this.#started, patience]);
    enough.abort();
  }

  #status(): CniAnswer {
    const why = this.#backend.notReady();
    if (why === undefined) return DONE;
    return failure(503, { code: CniCode.NOT_AVAILABLE, msg: "not ready to add pods", details: why });
  }

  async #add(request: CniRequest): Promise<CniAnswer> {
    await this.#drained;
    await this.#untilStarted();
    const why = this.#backend.notReady();
    if (why !== undefined) {
      return failure(503, { code: CniCode.TRY_AGAIN_LATER, msg: "not ready to add pods", details: why });
    }
    return this.#inOrder(request, async () => {
      // A runtime may add a container anew whose DEL still waits in the queue: it must not strike the new interface.
      discardDelete(this.#runDir, request);
      const pod = await this.#backend.add(request);
      return { status: 200, body: cniResult(request.config, request.prevResult, pod) };
    });
  }

  #del(request: CniAttachment): Promise<CniAnswer> {
    return this.#inOrder(request, async () => {
      await this.#backend.remove(request);
      return DONE;
    });
  }

  async #check(request: CniRequest): Promise<CniAnswer> {
    const found = await this.#backend.check(request);
    if (!found) {
      const msg = `container ${request.containerId} has no interface ${request.ifName} of ours`;
      return failure(404, { code: CniCode.UNKNOWN_CONTAINER, msg });
    }
    const problems = [...found.problems, ...resultDifferences(request.prevResult, found.pod)];
    if (problems.length === 0) return DONE;
    const msg = `interface ${request.ifName} is not as ADD left it`;
    return failure(409, { code: CniCode.CHECK_FAILED, msg, details: problems.join("; ") });
  }

  async #gc({ config, validAttachments }: CniRequest): Promise<CniAnswer> {
    if (!validAttachments) {
      return failure(400, { code: CniCode.INVALID_CONFIG, msg: "GC without a list of valid attachments" });
    }
    const valid = new Set(validAttachments.map((a) => `${a.containerId}/${a.ifName}`));
    const problems: string[] = [];
    for (const attachment of this.#backend.attachments(config.name)) {
      const key = `${attachment.containerId}/${attachment.ifName}`;
      if (valid.has(key)) continue;
      this.#log.info({ ...attachment, network: config.name }, "collecting a leaked pod interface");
      const answer = await this.#del(attachment).catch(faultAnswer);
      if (answer.status !== 200) problems.push(`${key}: ${(answer.body as CniErrorBody).msg}`);
    }
    if (problems.length === 0) return DONE;
    return failure(500, {
      code: CniCode.WIRING_FAILED,
      msg: "some leaks remain",
      details: problems.join("; "),
    });
  }

  async #drain(): Promise<number> {
    let done = 0;
    for (const { path, request, problem } of queuedDeletes(this.#runDir)) {
      if (!request) {
        this.#log.warn({ path, problem }, "queued DEL ignored");
        continue;
      }
      const answer = await this.#del(request).catch(faultAnswer);
      if (answer.status === 200) {
        rmSync(path, { force: true });
        done++;
      } else {
        this.#log.warn({ path, answer: answer.body }, "queued DEL failed; it stays for the next start");
      }
    }
    return done;
  }
}

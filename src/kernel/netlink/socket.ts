// SPDX-License-Identifier: Apache-2.0
// The rtnetlink socket (rtnetlink(7)): requests in one send, their answers matched by sequence number, refusals with
// the kernel's own words (extended acknowledgements). Calls are synchronous: the kernel has answered when send returns.
import { closeSync } from "node:fs";
import { errnoName, isErrno } from "../errno.ts";
import { faults } from "../faults.ts";
import { allocate, checked, libc, refused, sendLater } from "../ffi.ts";
import { type Netns, withNetns } from "../netns.ts";
import { Attributes, HEADER_BYTES, type Message, messagesOf, NLM_F, type Request } from "./codec.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const NETLINK_ROUTE = 0;
const NETLINK_SOCK_DIAG = 4;
const NETLINK_NETFILTER = 12;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSGERR_ATTR_MSG = 1;

/** Requests in one send: their answers must fit into the socket's receive buffer. */
const BATCH = 64;

/** A dump that the tables changed under is asked for again this often. */
const DUMP_ATTEMPTS = 8;

const RECEIVE_BYTES = 65536;

function openSocket(flags: number, groups: number, protocol = NETLINK_ROUTE): number {
  const fd = checked(
    "netlink.open",
    `protocol ${protocol}`,
    libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol),
  );
  const address = allocate(12);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups, true);
  checked("netlink.bind", "route", libc.bind(fd, address, address.length));
  return fd;
}

function setOption(fd: number, level: number, option: number, value: Uint8Array): void {
  checked("netlink.option", `${level}/${option}`, libc.setsockopt(fd, level, option, value, value.length));
}

function int32(value: number): Uint8Array {
  const bytes = allocate(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** A non-blocking socket that receives the multicast groups of `mask` (RTMGRP_*), for monitor.ts. */
export function openGroupSocket(mask: number, receiveBufferBytes: number): number {
  const fd = openSocket(SOCK_NONBLOCK, mask);
  setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, int32(receiveBufferBytes));
  return fd;
}

/** The fault in an NLMSG_ERROR message, or undefined for an acknowledgement. */
function refusalIn(message: Message, { purpose }: Request): Error | undefined {
  const code = message.view.getInt32(0, true);
  if (code === 0) return undefined;
  let why = "";
  if (message.flags & NLM_F.ackAttributes) {
    // The refused request follows the code, or only its header (capped), or nothing at the end of a dump.
    const request = message.flags & NLM_F.capped ? HEADER_BYTES : message.view.getUint32(4, true);
    const original = message.type === NLMSG_DONE ? 0 : request;
    why = new Attributes(message.payload.subarray(4 + ((original + 3) & ~3))).text(NLMSGERR_ATTR_MSG) ?? "";
  }
  return refused(purpose.op, errnoName(-code), purpose.object, why);
}

/** An open rtnetlink socket, or one of a family that answers in the same way. It acts in the namespace in which it was opened, whoever uses it. */
export class RtNetlink implements Disposable {
  readonly #fd: number;
  readonly #buffer = allocate(RECEIVE_BYTES);
  #sequence = 0;

  constructor(protocol = NETLINK_ROUTE) {
    this.#fd = openSocket(0, 0, protocol);
    setOption(this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, int32(1));
    setOption(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, int32(1));
    setOption(this.#fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, int32(1));
    // struct timeval: an answer that never comes must not hang the process.
    const fiveSeconds = allocate(16);
    fiveSeconds[0] = 5;
    setOption(this.#fd, SOL_SOCKET, SO_RCVTIMEO, fiveSeconds);
  }

  #send(messages: Uint8Array[], what: string): void {
    const data = Buffer.concat(messages);
    checked("netlink.send", what, libc.send(this.#fd, data, data.length, 0));
  }

  #receive(what: string): Generator<Message> {
    const length = checked("netlink.receive", what, libc.recv(this.#fd, this.#buffer, RECEIVE_BYTES, 0));
    return messagesOf(this.#buffer.subarray(0, length));
  }

  /**
   * Has the kernel carry out all requests, in order and in as few sends as possible; one that is refused does not stop
   * those after it. Gives one entry per request: the fault, or undefined if it was done.
   */
  attempt(...requests: Request[]): (Error | undefined)[] {
    const outcomes: (Error | undefined)[] = [];
    for (let from = 0; from < requests.length; from += BATCH) {
      const batch = requests.slice(from, from + BATCH);
      const first = this.#sequence + 1;
      this.#sequence += batch.length;
      this.#send(
        batch.map((request, i) => request.encode(first + i, true)),
        batch[0]?.purpose.op ?? "",
      );
      const answers = new Map<number, Error | undefined>();
      while (answers.size < batch.length) {
        for (const message of this.#receive(batch[answers.size]?.purpose.op ?? "")) {
          const request = batch[message.sequence - first];
          if (message.type !== NLMSG_ERROR || !request) continue;
          answers.set(message.sequence, refusalIn(message, request));
        }
      }
      for (let i = 0; i < batch.length; i++) outcomes.push(answers.get(first + i));
    }
    return outcomes;
  }

  /**
   * As `attempt` with one request, while this thread goes on: taking a device away lasts 20 ms. Until it has resolved
   * the socket is not to be used for anything else.
   */
  async attemptLater(request: Request): Promise<Error | undefined> {
    const sequence = ++this.#sequence;
    const { op, object } = request.purpose;
    const sent = await sendLater(this.#fd, request.encode(sequence, true));
    if (sent.result < 0) throw refused("netlink.send", sent.errno, op);
    for (;;) {
      for (const message of this.#receive(object)) {
        if (message.type === NLMSG_ERROR && message.sequence === sequence) return refusalIn(message, request);
      }
    }
  }

  /**
   * Has the kernel carry out all requests, in order.
   * @throws the fault of the first one that was refused; those after it have been tried all the same
   */
  apply(...requests: Request[]): void {
    for (const outcome of this.attempt(...requests)) if (outcome) throw outcome;
  }

  /** The answer to a request for one object, or undefined if there is no such object (ENODEV, ENOENT, ESRCH). */
  find<T>(request: Request, decode: (message: Message) => T | undefined): T | undefined {
    try {
      return this.#collect(request, decode)[0];
    } catch (thrown) {
      if (isErrno(thrown, "ENODEV", "ENOENT", "ESRCH")) return undefined;
      throw thrown;
    }
  }

  /** All objects of a dump request, in one consistent state; `decode` gives undefined for what is not wanted. */
  list<T>(request: Request, decode: (message: Message) => T | undefined): T[] {
    for (let attempt = 1; ; attempt++) {
      try {
        return this.#collect(request, decode);
      } catch (thrown) {
        if (attempt === DUMP_ATTEMPTS || !isErrno(thrown, "EINTR")) throw thrown;
      }
    }
  }

  #collect<T>(request: Request, decode: (message: Message) => T | undefined): T[] {
    const sequence = ++this.#sequence;
    this.#send([request.encode(sequence, false)], request.purpose.op);
    const found: T[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of this.#receive(request.purpose.op)) {
        if (message.sequence !== sequence) continue;
        if (message.flags & NLM_F.dumpInterrupted) interrupted = true;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const fault = message.view.byteLength >= 4 ? refusalIn(message, request) : undefined;
          if (fault) throw fault;
          // The tables changed between two parts of the dump (NLM_F_DUMP_INTR).
          if (interrupted) throw refused(request.purpose.op, "EINTR", request.purpose.object);
          return found;
        }
        const object = decode(message);
        if (object !== undefined) found.push(object);
        if (!(message.flags & NLM_F.multi)) return found;
      }
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens an rtnetlink socket in a namespace, or in the calling thread's own. */
export function openRtNetlink(netns?: Netns | string): RtNetlink {
  return netns === undefined ? new RtNetlink() : withNetns(netns, () => new RtNetlink());
}

/** Opens a socket for sock-diag.ts; it speaks the same way. */
export function openSockDiag(netns?: Netns | string): RtNetlink {
  const open = (): RtNetlink => new RtNetlink(NETLINK_SOCK_DIAG);
  return netns === undefined ? open() : withNetns(netns, open);
}

/** Opens a socket to netfilter's part of the kernel, in the calling thread's namespace. */
export function openNetfilterNetlink(): RtNetlink {
  return new RtNetlink(NETLINK_NETFILTER);
}

/** The object that a request made must be there afterwards. */
export function expectFound<T>(found: T | undefined, op: string, object: string): T {
  if (found === undefined) throw faults.NETLINK_REPLY({ op, object, why: "there is no such object" });
  return found;
}

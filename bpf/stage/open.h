/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A new flow, its translation decided: claims a port if the source is translated, then writes the record. In this order, so
 * that nobody follows an entry before its record is there, and nobody takes a port whose record is under way.
 */
#pragma once

#define OWNER_SHARE 8

/* Whether the same flow has a live record in the other table as well: another CPU made it, on the other side of a growth
 * (stage/table.h). For who has just made one in `table` and counted it. */
static __always_inline bool flow_twice(void *table, const struct flow_key *key, const struct pkt *p)
{
	void *other = flow_table(1);
	struct flow *f;

	if (other == table)
		other = flow_table(0);
	f = other && other != table ? bpf_map_lookup_elem(other, key) : NULL;
	return f && flow_alive(f, p->now) && owner_holds(f, p, &key->saddr);
}

/* Ends the record of this flow in a table, if nobody else is about to. */
static __always_inline void flow_withdraw(void *table, const struct flow_key *key)
{
	struct flow *f = bpf_map_lookup_elem(table, key);

	if (f && flow_take(f, flow_expires(f)))
		flow_delete(table, key, f->endpoint);
}

/* Opens the flow again in its own dead record, without writing to a map. A record with another translation, or whose port is
 * not `allowed` any more, is removed instead. False if the flow is still to be opened. */
__noinline int flow_reopen(struct pkt *p, bool allowed)
{
	void *table = flow_table(0);
	struct flow_key key;
	struct flow *f;
	__u32 seen;

	if (!p || !table)
		return false;
	key = p->key;
	f = bpf_map_lookup_elem(table, &key);
	if (!f)
		return false;
	seen = flow_expires(f);
	if (alive(seen, p->now) && owner_holds(f, p, &key.saddr))
		return false;
	if (!flow_take(f, seen))
		return false;
	if (!allowed || ((f->state ^ p->state) & FLOW_XSOURCE) || f->xsport != p->xsport || f->xdport != p->xdport ||
	    !addr_equal(&f->xsaddr, &p->xsaddr) || !addr_equal(&f->xdaddr, &p->xdaddr)) {
		flow_remove(f, &key, p->now);
		return false;
	}
	if (f->endpoint != p->endpoint) {
		count_flow(f->endpoint, -1);
		count_flow(p->endpoint, 1);
	}
	f->created = p->now;
	f->endpoint = p->endpoint;
	f->proxy_port = 0;
	f->service = 0;
	f->state = p->state;
	f->rule = p->rule;
	f->identity = p->identity;
	flow_give(f, expiry(p->now, flow_timeout(p->key.proto, p->state)));
	if (flow_twice(table, &key, p)) {
		if (flow_take(f, flow_expires(f)))
			flow_remove(f, &key, p->now);
		return false;
	}
	p->fresh = 1;
	p->direction = DIRECTION_FORWARD;
	return true;
}

/* Writes the record of a new flow from pkt. Gives 0; -EEXIST if another CPU has made it meanwhile; -1 with a reason. */
__noinline int flow_create(struct pkt *p)
{
	struct flow made = {};
	void *table = flow_table(0);
	struct flow_key key;
	int err;

	if (!p)
		return -1;
	key = p->key;
	made.xsaddr = p->xsaddr;
	made.xdaddr = p->xdaddr;
	made.xsport = p->xsport;
	made.xdport = p->xdport;
	made.created = p->now;
	made.expires = expiry(p->now, flow_timeout(p->key.proto, p->state));
	made.endpoint = p->endpoint;
	made.state = p->state;
	made.rule = p->rule;
	made.identity = p->identity;
	if (!table)
		return drop(p, DROP_CT_INSERT_FAILED);
	err = bpf_map_update_elem(table, &key, &made, BPF_NOEXIST);
	if (err)
		return err == -EEXIST ? err : drop(p, DROP_CT_INSERT_FAILED);
	count_flow(p->endpoint, 1);
	if (flow_twice(table, &key, p)) {
		flow_withdraw(table, &key);
		return -EEXIST;
	}
	p->fresh = 1;
	p->direction = DIRECTION_FORWARD;
	return 0;
}

/* Whether the flow's owner may have one record more: it may have at most OWNER_SHARE times as many as there is room for. So a pod
 * that opens flows without end leaves a ninth of the table free, n such pods 1 / (8 n + 1), and who has few flows always finds
 * room. Inbound flows count for the pod that they are towards, the node is an owner like a pod. Gives -1 with a reason. */
__noinline int owner_admits(struct pkt *p)
{
	__u32 id, records = USE_RECORDS, size = USE_SIZE;
	struct owner *owner;
	__u64 *use, *room;

	if (!p)
		return -1;
	id = p->endpoint;
	owner = bpf_map_lookup_elem(&owners, &id);
	use = bpf_map_lookup_elem(&table_use, &records);
	room = bpf_map_lookup_elem(&table_use, &size);
	if (!owner || !use || !room || !*room || (__s32)owner->flows <= OWNER_SHARE * (__s64)(*room - *use))
		return 0;
	__sync_fetch_and_add(&owner->refused, 1);
	return drop(p, DROP_CT_INSERT_FAILED);
}

/* Makes the record of a flow without translation. If another CPU opened it at the same time, that is as good. */
static __always_inline int flow_track(struct pkt *p)
{
	int err;

	if (p->stale && flow_reopen(p, true))
		return 0;
	if (owner_admits(p))
		return -1;
	err = flow_create(p);
	if (err == -EEXIST)
		return flow_find(p) == DIRECTION_FORWARD ? 0 : drop(p, DROP_CT_INSERT_FAILED);
	return err;
}

/* Opens a flow whose source may be translated, under the port of its dead record if that is still allowed. Gives -1 with a reason. If another CPU opened the same flow at the same time, its translation is taken and this claim given back.
 */
__noinline int flow_open(struct __sk_buff *skb, struct pkt *p)
{
	int err;

	if (!p)
		return -1;
	if (p->stale && flow_reopen(p, !(p->state & FLOW_XSOURCE) || port_again(skb, p)))
		return 0;
	if (owner_admits(p) || ((p->state & FLOW_XSOURCE) && port_find(skb, p)))
		return -1;
	err = flow_create(p);
	if (err == 0)
		return 0;
	if (p->state & FLOW_XSOURCE)
		port_release(p);
	if (err == -EEXIST && flow_find(p) == DIRECTION_FORWARD)
		return 0;
	return err == -EEXIST ? drop(p, DROP_CT_INSERT_FAILED) : -1;
}

/* For an opener's packet that leaves by a native device though its flow stayed with the node's stack so far: its destination was
 * the node's, or its device was not ours. Untranslated it would leak, so it is decided about as one without a record. If it opens
 * the flow anew the record ends; that of a TCP connection lives on, so that the connection does when the address comes back to the
 * node. A TCP connection by a device that has become ours goes on as it is.
 */
__noinline int flow_strayed(struct pkt *p)
{
	struct flow_key key;
	struct flow *f;
	__u32 slot;

	if (!p || (p->rule != MASQ_LOCAL && (p->rule != MASQ_UNMANAGED || !p->opens)))
		return 0;
	key = p->key;
	for (slot = 0; slot < 2 && p->opens; slot++) {
		f = flow_in(slot, &key);
		if (f && flow_take(f, flow_expires(f)))
			flow_remove(f, &key, p->now);
	}
	p->direction = DIRECTION_NONE;
	p->state = 0;
	return 0;
}

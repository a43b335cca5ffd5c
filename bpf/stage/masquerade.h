/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Must this pod's packet leave under the node's address, and under which? From the configuration, the destination and the
 * device, in the numbered order of enum masquerade_rule; for from_pod and to_net. Rules 5 to 9 ask for the destination only, so
 * they are decided before the route, which depends on them. Rules 1, 2, 3, 10 and 11 are decided by the hooks before they ask;
 * rule 4 (egress gateway) will stand where its number is.
 */
#pragma once

static __always_inline enum masquerade_rule rule_for(struct pkt *p)
{
	struct prefix to = { .prefixlen = 128, .addr = p->key.daddr };
	struct prefix_rule *kept;
	struct remote *remote;

	if (!(p->v6 ? CONFIG.masquerade_ipv6 : CONFIG.masquerade_ipv4))
		return CONFIG.netfilter ? MASQ_NETFILTER : MASQ_OFF;
	remote = bpf_map_lookup_elem(&ipcache, &to);
	if (remote)
		p->remote_identity = remote->identity;
	kept = bpf_map_lookup_elem(&nonmasq_cidrs, &to);
	if (kept && kept->rule == MASQ_NATIVE_CIDR) {
		p->rule_arg = kept->source;
		return MASQ_NATIVE_CIDR;
	}
	if (p->endpoint_flags & ENDPOINT_NO_MASQUERADE)
		return MASQ_ENDPOINT_EXEMPT;
	/* Not just any entry: one of rule 9 stands against IPv6 ranges that would hold IPv4's form in maps. */
	if (kept && kept->rule == MASQ_NONMASQ_CIDR) {
		p->rule_arg = kept->source;
		return MASQ_NONMASQ_CIDR;
	}
	/* Another node answers to the pod's address where it has a route to it: natively always, with a tunnel only if told. */
	if (remote && (remote->flags & REMOTE_NODE) && !CONFIG.masquerade_remote_nodes &&
	    (!CONFIG.tunnel || (remote->flags & REMOTE_SKIP_TUNNEL)))
		return MASQ_REMOTE_NODE;
	return MASQ_POD;
}

/* Rules 5 to 9 for a packet without a live flow. Sets rule, rule_arg and remote_identity. */
__noinline int masquerade_rule(struct pkt *p)
{
	if (p)
		p->rule = rule_for(p);
	return 0;
}

/* Says that the packet stays with the node's stack: rules 11 and 12. */
static __always_inline void masquerade_no(struct pkt *p, enum masquerade_rule rule)
{
	p->rule = rule;
	p->rule_arg = 0;
}

/* Carries out the rule for a packet without a live flow that leaves by device out_ifindex. For rule 9 sets xsaddr and state, for
 * which flow_open then finds a port. Gives -1 with a reason if it must not leave.
 */
__noinline int masquerade(struct pkt *p)
{
	struct device *device;
	__u32 out;

	if (!p)
		return -1;
	out = p->out_ifindex;
	device = bpf_map_lookup_elem(&devices, &out);
	if (!device) {
		masquerade_no(p, MASQ_UNMANAGED);
		return 0;
	}
	if (p->rule != MASQ_POD)
		return 0;
	/* What has no ports, or has lost its first fragment, must not leave under the pod's address. */
	if (p->shape == SHAPE_FRAGMENT)
		return drop(p, fragments_tracked(p) ? DROP_FRAG_NOT_FOUND : DROP_FRAG_NOSUPPORT);
	if (p->shape != SHAPE_FLOW)
		return drop(p, DROP_NAT_UNSUPP_PROTO);
	/* A late packet, its record evicted or never seen: translated anew it would be nobody's, untranslated it would leak. */
	if (!p->opens)
		return drop(p, DROP_CT_CANT_CREATE);
	p->xsaddr = p->v6 ? device->addr6 : device->addr4;
	if (CONFIG.masquerade_to_route_source && !addr_none(&p->route_source))
		p->xsaddr = p->route_source;
	if (addr_none(&p->xsaddr))
		return drop(p, DROP_NAT_NO_MAPPING);
	p->state = FLOW_XSOURCE;
	return 0;
}

/* Rule 2. The node's own packets keep their port. Only if a pod's live flow has the same tuple, because the node's socket came
 * later, do they get another one: then xsaddr and state are set as by masquerade.
 */
__noinline int masquerade_host(struct pkt *p)
{
	struct flow_key tuple, opener;
	struct reply *r;
	struct flow *f;

	if (!p)
		return 0;
	p->rule = MASQ_HOST;
	if (!p->opens)
		return 0;
	key_reverse(&tuple, &p->key);
	r = reply_get(&tuple);
	f = r ? flow_behind(r, &tuple, &opener) : NULL;
	if (f && flow_alive(f, p->now) && f->endpoint)
		p->state = FLOW_XSOURCE;
	return 0;
}

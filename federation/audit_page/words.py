# ruff: noqa: E501, RUF001  # a sentence is one line, and Chinese has its own commas
"""All that the page says: a key, the English words, the Chinese words."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

Language: TypeAlias = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
_CHOICE = re.compile(r"\s*([A-Za-z]{1,8}|\*)(?:-[A-Za-z0-9-]*)?\s*(?:;\s*q=([0-9.]{1,5}))?\s*")

_TABLE: Final[Mapping[str, tuple[str, str]]] = {
    # Of every page.
    "page.title": ("{page} - audit of {federation}", "{page} - {federation} 审计"),
    "page.skip": ("Skip to content", "跳到正文"),
    "page.product": ("Privacy ledger audit", "隐私账本审计"),
    "page.nav": ("Sections", "栏目"),
    "page.other_language": ("中文", "English"),
    "page.footer": (
        "Read-only. Shown as recorded; only a verification says that it holds. All times are UTC. Page made at {time}.",
        "只读。页面按记录原样显示；只有经过验证才能确认其真实完整。所有时间均为协调世界时（UTC）。页面生成于 {time}。",
    ),
    "page.export": ("Export evidence", "导出证据"),
    "page.path": ("You are here", "当前位置"),
    # Sections.
    "nav.overview": ("Overview", "总览"),
    "nav.runs": ("Runs", "训练任务"),
    "nav.members": ("Members", "成员"),
    "nav.budgets": ("Budgets", "隐私预算"),
    "nav.refusals": ("Refusals", "拒绝记录"),
    "nav.alerts": ("Alerts", "告警"),
    "nav.entries": ("Entries", "账本条目"),
    "nav.verify": ("Verify", "验证"),
    # Lists.
    "list.range": ("{first} to {last} of {total}", "第 {first} 至 {last} 条，共 {total} 条"),
    "list.pages": ("Pages of the list", "列表分页"),
    "list.first": ("First", "首页"),
    "list.previous": ("Previous", "上一页"),
    "list.next": ("Next", "下一页"),
    "list.last": ("Last", "末页"),
    "list.page": ("Page {page} of {pages}", "第 {page} 页，共 {pages} 页"),
    "list.none": ("None on record.", "没有记录。"),
    "list.all": ("All", "全部"),
    # Columns and facts.
    "is.member": ("Member", "成员"),
    "is.members": ("Members", "成员"),
    "is.run": ("Run", "训练任务"),
    "is.runs": ("Runs", "训练任务"),
    "is.rounds": ("Rounds", "轮次"),
    "is.round": ("Round", "轮"),
    "is.step": ("Step", "步骤"),
    "is.time": ("Time (UTC)", "时间（UTC）"),
    "is.started": ("Started (UTC)", "开始（UTC）"),
    "is.ended": ("Ended (UTC)", "结束（UTC）"),
    "is.first": ("First (UTC)", "首次（UTC）"),
    "is.last": ("Last (UTC)", "末次（UTC）"),
    "is.last_heard": ("Last heard of (UTC)", "最近一次活动（UTC）"),
    "is.state": ("State", "状态"),
    "is.name": ("Name", "名称"),
    "is.task": ("Task", "任务类型"),
    "is.protection": ("Protection", "保护方式"),
    "is.releases": ("Releases", "发布次数"),
    "is.opened": ("Opened", "已打开"),
    "is.epsilon": ("Epsilon", "ε"),
    "is.epsilon_coordinator": ("Epsilon, coordinator", "ε（协调方）"),
    "is.epsilon_solo": ("Epsilon, all others", "ε（其他全部）"),
    "is.cap_coordinator": ("Cap, coordinator", "上限（协调方）"),
    "is.cap_solo": ("Cap, all others", "上限（其他全部）"),
    "is.dataset": ("Data set", "数据集"),
    "is.unit": ("Unit", "保护单元"),
    "is.part": ("Cohort", "单元类别"),
    "is.spent": ("Spent", "已用"),
    "is.cap": ("Cap", "上限"),
    "is.share": ("Of the cap", "占上限"),
    "is.delta": ("Delta", "δ"),
    "is.order": ("Rényi order", "Rényi 阶"),
    "is.period": ("Period", "周期"),
    "is.colluders": ("Colluders assumed", "假定合谋成员数"),
    "is.reason": ("Reason", "原因"),
    "is.consent": ("Consent", "同意情况"),
    "is.kind": ("Kind", "类型"),
    "is.ledger": ("Ledger", "账本"),
    "is.ledgers": ("Ledgers", "账本"),
    "is.index": ("Entry", "条目"),
    "is.entries": ("Entries", "条目"),
    "is.about": ("About", "内容"),
    "is.aggregate": ("Hash of the sum", "汇总值哈希"),
    "is.kept": ("Kept", "是否采用"),
    "is.in_sum": ("Members in the sum", "参与汇总的成员"),
    "is.sums": ("Sums it was in", "参与的汇总次数"),
    "is.minimum": ("Fewest members in a sum", "汇总的最少成员数"),
    "is.manifest": ("Manifest", "任务清单哈希"),
    "is.model": ("Model", "模型哈希"),
    "is.values": ("Weights", "模型参数个数"),
    "is.contract": ("Data declared", "申报的数据"),
    "is.classes": ("Columns by class", "各级别列数"),
    "is.retention": ("Kept for", "保存期限"),
    "is.warnings": ("Warnings of the rules", "规则警告"),
    "is.size": ("Entries covered", "覆盖条目数"),
    "is.root": ("Root", "根哈希"),
    "is.signature": ("Signature", "签名"),
    "is.key": ("Public key", "公钥"),
    "is.role": ("Role", "角色"),
    "is.since": ("Since (UTC)", "起始（UTC）"),
    "is.expires": ("Good until (UTC)", "有效期至（UTC）"),
    "is.approved": ("Approved by", "批准者"),
    "is.fingerprint": ("Fingerprint of the key", "密钥指纹"),
    "is.severity": ("Severity", "严重程度"),
    "is.alert": ("What to look at", "需关注的事项"),
    "is.family": ("Family", "行为类别"),
    "is.epoch": ("Writer's turn", "写入者轮次"),
    "is.leaf": ("Leaf hash", "叶哈希"),
    "is.bytes": ("Bytes", "字节数"),
    "is.side": ("Side", "位置"),
    "is.sibling": ("Hash beside the path", "路径旁的哈希"),
    "is.result": ("Hash above", "上层哈希"),
    "is.level": ("Level", "层"),
    "is.where": ("Where", "链接"),
    "is.uncovered": ("Entries after it", "其后的条目数"),
    "is.against": ("Against", "对手"),
    # Values.
    "value.days": ("{count} days", "{count} 天"),
    "value.forever": ("for ever", "永久累计"),
    "value.percent": ("{share} %", "{share}%"),
    "value.no_cap": ("no cap", "无上限"),
    "value.unbounded": ("without bound", "无界"),
    "value.yes": ("yes", "是"),
    "value.no": ("no", "否"),
    "value.nobody": ("nobody", "无"),
    "value.unknown": ("not known", "未知"),
    "value.never": ("never", "从未"),
    "value.not_at_hand": ("not at hand", "未提供"),
    "value.of": ("{count} of {total}", "{count} / {total}"),
    "value.open": ("open", "进行中"),
    "value.left": ("left", "左"),
    "value.right": ("right", "右"),
    "part.training": ("training", "训练"),
    "part.test": ("test", "测试"),
    "against.coordinator": (
        "coordinator with {count} of the others",
        "协调方与另外 {count} 个成员合谋",
    ),
    "against.solo": ("all others together", "其他各方全部合谋"),
    "against.coordinator_short": ("coordinator", "协调方"),
    "against.solo_short": ("all others", "其他全部"),
    "state.announced": ("never started", "未开始"),
    "state.running": ("open", "进行中"),
    "state.finished": ("finished", "已完成"),
    "state.stopped": ("stopped", "已停止"),
    "consent.none": ("not recorded", "无记录"),
    "consent.consented": ("consented", "同意"),
    "consent.declined": ("declined", "拒绝"),
    "reserved.0": ("open", "未决"),
    "reserved.1": ("committed", "已提交"),
    "reserved.2": ("taken back", "已撤回"),
    "release.waiting": ("reserved, not opened yet", "已预留，尚未打开"),
    "release.dangling": ("reserved, never opened", "已预留，从未打开"),
    "release.opened": ("opened, not accepted", "已打开，未接受"),
    "release.kept": ("kept", "采用"),
    "release.undone": ("rolled back", "回退"),
    "severity.critical": ("Critical", "严重"),
    "severity.warning": ("Warning", "警告"),
    "role.coordinator": ("coordinator", "协调方"),
    "role.node": ("node", "节点"),
    "role.operator": ("operator", "运营方"),
    "role.manufacturer": ("manufacturer", "制造商"),
    "role.insurer": ("insurer", "保险公司"),
    "role.bank": ("bank", "银行"),
    "role.regulator": ("regulator", "监管机构"),
    "participant.active": ("takes part", "有效"),
    "participant.waiting": ("waits for approval", "待批准"),
    "participant.invited": ("invited", "已邀请"),
    "participant.expired": ("invitation expired", "邀请已过期"),
    "participant.revoked": ("revoked", "已撤销"),
    "protection.masked": ("masked", "掩码"),
    "protection.sealed": ("sealed", "密封"),
    "protection.ckks": ("CKKS", "CKKS"),
    "protection.clear": ("clear", "明文"),
    "signature.verified": ("verified", "已验证"),
    "signature.wrong": ("does not verify", "验证失败"),
    "signature.unknown": ("key not known here", "此处不知其公钥"),
    "family.collection": ("collection", "采集"),
    "family.deidentification": ("de-identification", "去标识化"),
    "family.modelling": ("modelling", "建模"),
    "family.output": ("output", "结果输出"),
    "family.administration": ("administration", "管理"),
    "step.statistics": ("feature statistics, stage {count}", "特征统计，第 {count} 阶段"),
    "step.update": ("update of round {count}", "第 {count} 轮更新"),
    "step.evaluate_watch": ("validation after round {count}", "第 {count} 轮后验证"),
    "step.evaluate_test": ("test after round {count}", "第 {count} 轮后测试"),
    "step.evaluate_personal": ("personal test after round {count}", "第 {count} 轮后个性化测试"),
    # Kinds of entries.
    "kind.ledger.begun": ("Ledger begun", "账本建立"),
    "kind.key.rotated": ("Key rotated", "密钥更换"),
    "kind.writer.began": ("Writer began", "写入者启动"),
    "kind.rules.checked": ("Rules checked", "规则检查"),
    "kind.data.declared": ("Data declared", "数据申报"),
    "kind.rows.read": ("Rows read", "读取数据行"),
    "kind.run.started": ("Run started", "任务开始"),
    "kind.run.consented": ("Member consented", "成员同意"),
    "kind.run.declined": ("Member declined", "成员拒绝"),
    "kind.keys.agreed": ("Keys agreed", "密钥协商"),
    "kind.model.agreed": ("Initial model agreed", "初始模型确认"),
    "kind.sum.reserved": ("Sum reserved", "汇总预留"),
    "kind.sum.opened": ("Sum opened", "汇总打开"),
    "kind.sum.accepted": ("Sum accepted", "汇总接受"),
    "kind.round.committed": ("Round committed", "轮次提交"),
    "kind.run.finished": ("Run finished", "任务完成"),
    "kind.run.stopped": ("Run stopped", "任务停止"),
    "kind.model.registered": ("Model registered", "模型登记"),
    "kind.federation.begun": ("Federation begun", "联邦成立"),
    "kind.member.invited": ("Member invited", "邀请成员"),
    "kind.member.requested": ("Keys offered to join", "申请加入"),
    "kind.member.approved": ("Member approved", "批准成员"),
    "kind.member.certified": ("Certificate issued", "签发证书"),
    "kind.member.renewed": ("Keys renewed", "更换密钥"),
    "kind.member.revoked": ("Member revoked", "撤销成员"),
    "kind.run.countersigned": ("Run countersigned", "任务会签"),
    "kind.run.decided": ("A person decided", "人工决定"),
    "kind.policy.applied": ("Policy in force", "策略生效"),
    "kind.device.held": ("Device under review", "设备待人工审核"),
    "kind.device.released": ("Device released", "设备放行"),
    "kind.device.rejected": ("Device rejected", "设备拒用"),
    "kind.ledger.followed": ("Ledger followed", "关注账本"),
    "kind.ledger.cosigned": ("Ledger cosigned", "联署账本"),
    "kind.ledger.rekeyed": ("Ledger's new key followed", "关注账本新密钥"),
    "kind.run.joined": ("Run joined", "加入任务"),
    "kind.run.refused": ("Run refused by node", "节点拒绝任务"),
    "kind.budget.terms": ("Budget terms", "预算条款"),
    "kind.budget.reserved": ("Budget reserved", "预算预留"),
    "kind.budget.committed": ("Budget committed", "预算提交"),
    "kind.budget.aborted": ("Release taken back", "撤回发布"),
    "kind.broken": ("Cannot be read", "无法读取"),
    # Overview.
    "overview.totals": ("Totals", "总计"),
    "overview.checkpoint": ("Newest checkpoint", "最新检查点"),
    "overview.checkpoint_none": (
        "The ledger has no checkpoint yet: nobody has signed its state.",
        "账本尚无检查点：尚未有人对其状态签名。",
    ),
    "overview.no_coordinator": (
        "The coordinator's ledger is not at hand; budgets below are from nodes' own ledgers.",
        "未提供协调方账本；以下预算来自各节点自己的账本。",
    ),
    "overview.later": (
        "A later one, of {size} entries, is signed by the ledger alone.",
        "另有更新的检查点（{size} 条），仅由账本自身签名。",
    ),
    "overview.matches": ("Matches the entries", "与条目一致"),
    "overview.log_signature": ("Signature of the ledger", "账本签名"),
    "overview.cosigners": ("Who cosigned the newest checkpoint", "最新检查点的联署方"),
    "overview.not_cosigned": ("Did not cosign it", "未联署"),
    "overview.budgets": ("Budgets of members by data set", "各成员各数据集的隐私预算"),
    "overview.budgets_about": (
        "Epsilon as the node enforces it, recomputed from the receipts in its own ledger. Smaller is more private.",
        "ε 按节点实际执行的方式，由其自身账本中的凭据重新计算。数值越小，隐私保护越强。",
    ),
    "overview.alerts": ("What to look at first", "首先关注"),
    "overview.no_alerts": ("No alerts.", "没有告警。"),
    "overview.more_alerts": ("All alerts ({count})", "全部告警（{count}）"),
    "overview.runs": ("Latest runs", "最近的训练任务"),
    # Runs.
    "runs.caption": ("Runs, the latest first", "训练任务（最新在前）"),
    "run.facts": ("What was agreed", "约定内容"),
    "run.cost": ("What it tells of one unit", "对单个保护单元的泄露上限"),
    "run.cost_about": (
        "Upper bounds on epsilon by Rényi accounting, recomputed from the receipts of all reservations, at the member whose units they tell most. A reservation counts whether or not it was opened.",
        "ε 上界由全部预留的凭据按 Rényi 方法重新计算，取泄露最多的成员。无论是否打开，预留均计入。",
    ),
    "run.parties": ("Members of this run", "本任务的成员"),
    "run.releases": ("Sums, the latest first", "汇总（最新在前）"),
    "run.release_entries": ("Entries", "条目"),
    "run.reserved": ("reserved", "预留"),
    "run.opened": ("opened", "打开"),
    "run.accepted": ("accepted", "接受"),
    "run.entries": ("All entries of this run", "本任务的全部条目"),
    "run.no_noise": ("none: sums are exact", "无噪声：汇总值为精确值"),
    "run.noise": ("Noise", "噪声"),
    "run.with_noise": ("by the plan in the manifest", "按任务清单中的计划添加"),
    "run.missing": ("without {members}", "缺 {members}"),
    # Members.
    "members.caption": ("Members of the federation", "联邦成员"),
    "participants.caption": ("Who takes part", "参与方"),
    "participants.about": (
        "Of {federation}, founded by {founder} with the key {key}. By its rules {approvals} must approve whoever asks to join, where so many can. From the acts on record, each signed by whoever did it, back to that key: compare it with the one that you know.",
        "{federation} 由 {founder} 以密钥 {key} 创立。按其规则，申请加入须经 {approvals} 方批准（人数足够时）。以下由账本中的行为得出，每项均由行为人签名，并可追溯至该密钥：请与您所知的密钥核对。",
    ),
    "participants.runs": ("Members in runs", "训练任务中的成员"),
    "member.ledgers": ("Its own ledgers", "自有账本"),
    "member.said": ("Said last of its ledger", "最近一次自报的账本状态"),
    "member.said_value": ("{leaves} entries, in entry {index}", "{leaves} 条，见条目 {index}"),
    "member.runs": ("Runs that name it", "涉及的训练任务"),
    "member.budgets": ("Its budgets", "隐私预算"),
    # Budgets.
    "budgets.caption": (
        "Budgets: what may have been learned of one unit",
        "隐私预算：关于单个保护单元可能泄露的信息",
    ),
    "budget.title": ("Budget of {member}: {dataset}", "{member} 的隐私预算：{dataset}"),
    "budget.terms": ("Terms", "条款"),
    "budget.terms_history": ("Terms as they were agreed", "历次条款"),
    "budget.stand": ("Where it stands", "当前状况"),
    "budget.chart": ("Epsilon over time, {part} units", "ε 随时间变化（{part}单元）"),
    "budget.chart_desc": (
        "{releases} releases from {first} to {last}. Against the coordinator epsilon ends at {coordinator}, against all others together at {solo}. The table of reservations below has the same figures.",
        "从 {first} 到 {last} 共发布 {releases} 次。对协调方，ε 最终为 {coordinator}；对其他各方全部合谋，ε 最终为 {solo}。下方的预留表列有相同数据。",
    ),
    "budget.axis": ("epsilon", "ε"),
    "budget.cap_line": ("cap {cap}", "上限 {cap}"),
    "budget.cap_beyond": (
        "The cap against {against} is {cap}, above this drawing.",
        "对手为“{against}”时的上限为 {cap}，超出图示范围。",
    ),
    "budget.unbounded_since": (
        "Against {against}, nothing bounds it since {time}: a release had no noise.",
        "自 {time} 起，对手为“{against}”时无界：有一次发布未加噪声。",
    ),
    "budget.runs": ("Which run took what", "各任务的消耗"),
    "budget.runs_about": (
        "Epsilon of the run's releases by themselves. Epsilons of several runs do not simply add up; together they cost less.",
        "该任务自身发布所对应的 ε。多个任务的 ε 不能简单相加，合计通常更小。",
    ),
    "budget.reservations": ("Reservations, and epsilon after each", "历次预留及其后的 ε"),
    "budget.reservations_about": (
        "Epsilon of all that counted just after the reservation, against the coordinator and against all others together.",
        "每次预留之后计入的全部发布所对应的 ε：分别为对协调方，以及对其他各方全部合谋。",
    ),
    # Refusals.
    "refusals.caption": ("Refusals, the latest first", "拒绝记录（最新在前）"),
    "refusals.about": (
        "Who said no, to what, and why, in their own words.",
        "谁拒绝、拒绝什么、原因为何（原文）。",
    ),
    "refusals.budget": ("names its budget", "涉及预算"),
    "refusals.unknown_run": ("manifest {hash}", "清单 {hash}"),
    # Alerts.
    "alerts.caption": ("Alerts, the gravest first", "告警（最严重在前）"),
    "alert.ledger_cut": (
        "The ledger of {ledger} became shorter: {count} entries that were here are gone.",
        "{ledger} 的账本变短：原有的 {count} 条记录已消失。",
    ),
    "alert.entry_broken": (
        "The ledger of {ledger} has {count} entries that cannot be read, the first at {index}: {why}.",
        "{ledger} 的账本有 {count} 条无法读取，首条为 {index}：{why}。",
    ),
    "alert.checkpoint_none": (
        "The ledger of {ledger} has no signed checkpoint.",
        "{ledger} 的账本没有已签名的检查点。",
    ),
    "alert.checkpoint_alone": (
        "Nobody cosigned a checkpoint of {ledger}; the newest is of {size} entries.",
        "{ledger} 的检查点均无人联署；最新检查点为 {size} 条。",
    ),
    "alert.checkpoint_old": (
        "{count} entries of {ledger} are under no cosigned checkpoint; the last is of {time}.",
        "{ledger} 有 {count} 条记录未被联署的检查点覆盖，最后一条记录于 {time}。",
    ),
    "alert.checkpoint_wrong": (
        "The newest checkpoint of {ledger}, of {size} entries, is not of the entries at hand.",
        "{ledger} 的最新检查点（{size} 条）与现有条目不一致。",
    ),
    "alert.checkpoint_unsigned": (
        "The newest checkpoint of {ledger}, of {size} entries, is not signed by the ledger's key.",
        "{ledger} 的最新检查点（{size} 条）没有账本密钥的有效签名。",
    ),
    "alert.checkpoint_broken": (
        "The newest checkpoint of {ledger}, of {size} entries, cannot be read: {why}.",
        "{ledger} 的最新检查点（{size} 条）无法读取：{why}。",
    ),
    "alert.cosignature_wrong": (
        "A cosignature of {member} under the newest checkpoint of {ledger}, of {size} entries, does not verify.",
        "{ledger} 的最新检查点（{size} 条）上 {member} 的联署签名验证失败。",
    ),
    "alert.node_short": (
        "{member} said that its ledger has {said} entries (entry {index}), and at hand are {held}.",
        "{member} 自报账本有 {said} 条（见条目 {index}），而现有仅 {held} 条。",
    ),
    "alert.node_other": (
        "The ledger of {member} at hand is not the one that it spoke of: other hashes at {said} entries (entry {index}).",
        "{member} 的现有账本与其自报的不同：在 {said} 条处哈希不一致（见条目 {index}）。",
    ),
    "alert.cap_near_coordinator": (
        "{member} has spent epsilon {spent} of its cap of {cap} on {dataset} ({unit}, {part} units) against the coordinator.",
        "{member} 在 {dataset}（{unit}，{part}单元）上对协调方已用 ε {spent}，上限 {cap}。",
    ),
    "alert.cap_near_solo": (
        "{member} has spent epsilon {spent} of its cap of {cap} on {dataset} ({unit}, {part} units) against all others together.",
        "{member} 在 {dataset}（{unit}，{part}单元）上对其他各方全部合谋已用 ε {spent}，上限 {cap}。",
    ),
    "alert.cap_passed_coordinator": (
        "{member} has passed its cap of {cap} on {dataset} ({unit}, {part} units) against the coordinator: epsilon {spent}.",
        "{member} 在 {dataset}（{unit}，{part}单元）上对协调方已超出上限 {cap}：ε {spent}。",
    ),
    "alert.cap_passed_solo": (
        "{member} has passed its cap of {cap} on {dataset} ({unit}, {part} units) against all others together: epsilon {spent}.",
        "{member} 在 {dataset}（{unit}，{part}单元）上对其他各方全部合谋已超出上限 {cap}：ε {spent}。",
    ),
    "alert.cap_unbounded": (
        "{member} has a cap on {dataset} ({unit}, {part} units), and something was released without noise: nothing bounds it.",
        "{member} 在 {dataset}（{unit}，{part}单元）上设有上限，但有数据在未加噪声的情况下发布：无界。",
    ),
    "alert.reserve_dangling": (
        "Sums that run {run} reserved and never opened: {count}, the first at {time}. They count as spent.",
        "任务 {run} 有 {count} 次汇总预留从未打开，首次在 {time}；均计为已用。",
    ),
    "alert.node_dangling": (
        "Releases of {dataset} that {member} reserved and neither committed nor took back: {count}, the first in run {run}. They count as spent.",
        "{member} 在 {dataset} 上有 {count} 次预留既未提交也未撤回，首次在任务 {run}；均计为已用。",
    ),
    "alert.abort_unsigned": (
        "{member} took a release back in entry {index} without a signature that holds; it counts as spent.",
        "{member} 在条目 {index} 撤回发布但签名无效；仍计为已用。",
    ),
    "alert.run_silent": (
        "Run {run} has not ended, and nothing was recorded of it since {time}.",
        "任务 {run} 尚未结束，但自 {time} 起没有任何记录。",
    ),
    "alert.node_silent": (
        "{member} is silent in run {run} since {time}.",
        "{member} 自 {time} 起在任务 {run} 中没有响应。",
    ),
    "alert.verify_failed": (
        "The last verification did not hold: {why}",
        "最近一次验证未通过：{why}",
    ),
    # Entries.
    "entries.caption": ("Entries of the ledger of {owner}", "{owner} 的账本条目"),
    "entries.filter": ("Which entries", "筛选条目"),
    "entries.show": ("Show", "显示"),
    "entries.run_hint": ("Run (id, or empty for all)", "训练任务（编号，留空为全部）"),
    "entry.title": ("Entry {index}, ledger of {owner}", "{owner} 账本的条目 {index}"),
    "entry.body": ("What it says", "条目内容"),
    "entry.document": ("The manifest in it", "其中的任务清单"),
    "entry.proof": ("Proof that it is in the ledger", "包含证明"),
    "entry.proof_holds": (
        "The hashes lead from this entry to the root over {size} entries: it is in there, unchanged, in this place.",
        "这些哈希从本条目一直推导到 {size} 条记录的根：该条目确在其中，内容与位置均未改变。",
    ),
    "entry.proof_fails": (
        "The hashes do not lead to the root over {size} entries. Keep a copy of this ledger and ask its owner.",
        "这些哈希无法推导到 {size} 条记录的根。请保留账本副本并询问其所有者。",
    ),
    "entry.unsigned": (
        "No checkpoint covers this entry yet; the root below is of the entries at hand, and nobody signed it.",
        "尚无检查点覆盖本条目；下列根由现有条目计算得出，未经签名。",
    ),
    "entry.signed": (
        "The root stands in a signed checkpoint; {count} others cosigned it.",
        "该根记录于已签名的检查点中；另有 {count} 方联署。",
    ),
    "entry.path": ("From the entry to the root", "从条目到根的路径"),
    "entry.path_none": (
        "The ledger has this one entry: its hash is the root.",
        "账本只有这一条记录：其哈希即为根。",
    ),
    "entry.download_proof": ("Download proof (C2SP tlog-proof)", "下载证明（C2SP tlog-proof）"),
    "entry.download_leaf": ("Download the entry's bytes", "下载条目原始字节"),
    "entry.neighbours": ("Neighbouring entries", "相邻条目"),
    "entry.broken": ("This entry cannot be read: {why}.", "该条目无法读取：{why}。"),
    # Verification.
    "verify.title": ("Verify", "验证"),
    "verify.about": (
        "Checks every ledger at hand from its first byte, in this page's server. For evidence that does not depend on this server, export the bundle and run tacit audit verify on your own machine.",
        "在本页面的服务器上，从第一个字节开始检查所有现有账本。如需不依赖本服务器的结论，请导出证据包，并在自己的电脑上运行 tacit audit verify。",
    ),
    "verify.button": ("Verify everything now", "立即验证全部内容"),
    "verify.again": ("Verify again", "重新验证"),
    "verify.none": ("Not verified yet since this page was started.", "自本页面启动以来尚未验证。"),
    "verify.running": ("A verification runs since {time}.", "验证正在进行，开始于 {time}。"),
    "verify.look": ("Look for its result", "查看结果"),
    "verify.holds": (
        "Verified: everything that was checked holds.",
        "验证通过：所有检查项均成立。",
    ),
    "verify.fails": ("Not verified: something does not hold.", "验证未通过：存在不成立之处。"),
    "verify.when": ("Ended at {time} after {seconds} s.", "于 {time} 结束，用时 {seconds} 秒。"),
    "verify.grown": ("{count} entries were added since.", "此后新增 {count} 条记录。"),
    "verify.steps": ("What was checked, and what was found", "检查内容与结果"),
    "verify.step": ("Checked", "检查内容"),
    "verify.found": ("Found", "结果"),
    # Errors.
    "error.title": ("{status}: this page cannot be shown", "{status}：无法显示该页面"),
    "error.back": ("Back to the overview", "返回总览"),
    "error.400": ("The address has a value that makes no sense here.", "网址中的参数无效。"),
    "error.host": (
        "This server does not answer under that name. Use the address that it printed when it was started.",
        "本服务器不接受以该名称访问。请使用启动时显示的地址。",
    ),
    "error.401": (
        "This page needs its token: give it as the password, with any user name.",
        "访问本页面需要令牌：请将其作为密码输入，用户名任意。",
    ),
    "error.403": (
        "Another site sent this form; use the button on this page.",
        "该表单由其他网站发送；请使用本页面上的按钮。",
    ),
    "error.404": ("There is no such page.", "没有该页面。"),
    "error.405": (
        "This page is read-only; only a verification can be started.",
        "本页面为只读；只能启动验证。",
    ),
    "error.500": (
        "The page could not be made. The server's own messages say more.",
        "无法生成页面。详情请查看服务器自身的消息。",
    ),
}
WORDS: Final[Mapping[Language, Mapping[str, str]]] = MappingProxyType(
    {
        language: MappingProxyType({key: pair[place] for key, pair in _TABLE.items()})
        for place, language in enumerate(LANGUAGES)
    }
)
"""Language -> key -> words; `{name}` is put in."""


def language_of(asked: str, accepted: str, default: Language | None) -> Language:
    """Return the language of a page: as asked, else the default, else what the browser prefers."""
    for language in LANGUAGES:
        if asked == language:
            return language
    if default is not None:
        return default
    best: tuple[float, Language] = (0.0, "en")
    for part in accepted[:500].split(","):
        found = _CHOICE.fullmatch(part)
        if found is None:
            continue
        try:
            weight = float(found[2] or 1)
        except ValueError:
            continue
        for language in LANGUAGES:
            if found[1].lower() == language and weight > best[0]:
                best = (weight, language)
    return best[1]

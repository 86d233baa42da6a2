# ruff: noqa: E501, RUF001  # a sentence is one line, and Chinese has its own commas
"""All that the page says: a key, the English words, the Chinese words."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from clients.reasons import LANGUAGES, Language

_TABLE: Final[Mapping[str, tuple[str, str]]] = {
    "page.title": ("Model card: {title}", "模型卡: {title}"),
    "page.skip": ("Skip to content", "跳到正文"),
    "page.product": ("Model card", "模型卡"),
    "page.about": ("{kind}, run {run}, made {made}.", "{kind}，训练任务 {run}，生成于 {made}。"),
    "page.fold": (
        "Fold {fold} of {folds}; privacy is that of all folds together.",
        "第 {fold} 折，共 {folds} 折；隐私数字为各折合计。",
    ),
    "page.footer": (
        "This page loads nothing and runs nothing. The JSON beside it holds the same facts, signed; check both with: tacit model card --verify FILE.json",
        "本页不加载任何外部内容，也不执行任何脚本。同名 JSON 文件载有相同内容并带签名；验证方法：tacit model card --verify FILE.json",
    ),
    "page.parts": ("Sections", "栏目"),
    # Sections.
    "limits": ("Use and limits", "用途与限制"),
    "data": ("Data", "数据"),
    "evaluation": ("How good it is", "模型效果"),
    "calibration": ("Calibration", "校准"),
    "stability": ("Stability", "稳定性"),
    "importance": ("What the model leans on", "模型所依赖的输入"),
    "shapes": ("What each column adds", "各列的作用"),
    "privacy": ("Privacy", "隐私"),
    "protection": ("Protection of sums", "求和的保护"),
    "lineage": ("Lineage", "来源"),
    "signatures": ("Signatures", "签名"),
    # Kinds.
    "kind.additive": ("Additive model: one curve for each column", "可加模型：每列一条曲线"),
    "kind.mlp": ("Neural network", "神经网络"),
    "kind.cnn": ("Convolutional network", "卷积网络"),
    "task.credit": ("Credit", "信贷"),
    "task.claims": ("Claims", "理赔"),
    "task.failure": ("Failure", "故障"),
    "label.remaining_life": ("It says how much life a unit has left.", "模型给出设备的剩余寿命。"),
    "label.within_horizon": (
        "It says the chance that a unit fails within the contract's horizon.",
        "模型给出设备在约定期限内发生故障的概率。",
    ),
    "label.binary": (
        "It says the chance that the label's event happens.",
        "模型给出标签事件发生的概率。",
    ),
    "label.value": ("It says the label's value.", "模型给出标签的数值。"),
    "label.count": (
        "It says how many events to expect for an exposure.",
        "模型给出一定暴露量下的预期事件数。",
    ),
    # Tiles.
    "tile.task": ("Task", "任务"),
    "tile.members": ("Members", "成员数"),
    "tile.rounds": ("Rounds", "轮次"),
    "tile.weights": ("Weights", "参数个数"),
    "tile.epsilon": ("Proven epsilon", "可证明的 epsilon"),
    "tile.protection": ("Sums", "求和方式"),
    "value.unbounded": ("without bound", "无上界"),
    "value.none": ("none", "无"),
    "value.withheld": ("withheld", "不予公布"),
    "value.unsaid": ("not said", "未说明"),
    # Limits.
    "limits.for": ("What it is for", "用途"),
    "limits.not": ("What it must not be used for", "不得用于"),
    "limits.uncovered": ("What the privacy statement does not cover", "隐私说明不涵盖的内容"),
    "limit.credit.alone": (
        "Refusing anybody by the score alone: a person decides, and whoever is refused gets reasons (PIPL, Article 24).",
        "不得仅凭评分拒绝任何人：须由人作出决定，并向被拒者说明理由（《个人信息保护法》第二十四条）。",
    ),
    "limit.credit.other": (
        "Anything but credit: prices of insurance, hiring, offers to other people.",
        "不得用于信贷以外的目的：保险定价、招聘、向他人推销等。",
    ),
    "limit.claims.single": (
        "Saying whether a single claim is true, or what it should pay: it speaks of expected figures over an exposure.",
        "不得用于判断单笔理赔的真伪或赔付金额：模型只说明一定暴露量下的预期值。",
    ),
    "limit.claims.alone": (
        "Refusing cover by the score alone: a person decides, and whoever is refused gets reasons (PIPL, Article 24).",
        "不得仅凭评分拒保：须由人作出决定，并向被拒者说明理由（《个人信息保护法》第二十四条）。",
    ),
    "limit.failure.safety": (
        "Protecting people or machines: it is no safety function and replaces neither an interlock nor an inspection that a rule asks for.",
        "不得用于人身或设备的安全保护：它不是安全功能，不能代替联锁装置或法定检验。",
    ),
    "limit.failure.person": (
        "Judging people who work with a machine.",
        "不得用于评价操作设备的人员。",
    ),
    "limit.unexplained": (
        "Scores that somebody is owed reasons for: this model has no exact factors.",
        "不得用于须向当事人说明理由的评分：本模型没有精确的因素分解。",
    ),
    "limit.population": (
        "Units unlike those of the members named here: nothing was tested on others.",
        "不得用于与所列成员情况不同的对象：未在其他对象上测试。",
    ),
    "limit.range": (
        "Values beyond the ranges in the data contract: they are held to the range, and the score does not show it.",
        "不得用于超出数据契约取值范围的输入：超出部分按边界处理，评分本身不会显示这一点。",
    ),
    "limit.cause": (
        "Saying what would happen if something were changed: it has learnt what goes together, not what causes what.",
        "不得用于推断改变某项因素后的结果：模型学到的是相关，不是因果。",
    ),
    "limit.members": (
        "Settling what is true of a member's rows: a member that lies about its own data is not found out by sums.",
        "不得用于证明成员数据的真实性：成员就自身数据作假，求和无法发现。",
    ),
    "limit.time": (
        "Trusting the figures for a later time: test rows were drawn at random from the same time as training rows.",
        "不得将所列指标当作未来表现：测试数据与训练数据取自同一时期，随机划分。",
    ),
    "limit.noise": (
        "Handing the model to strangers: no noise was added, so nothing bounds what it tells of a unit in its training rows.",
        "不得将模型交给外人：未加噪声，模型可能透露的训练对象信息没有上界。",
    ),
    "limit.purposes": (
        "Any purpose without looking it up: the contract does not say what the people or owners behind the rows agreed to.",
        "使用前须另行核实目的：数据契约未说明数据主体或所有者同意的用途。",
    ),
    "limit.one_machine": (
        "Evidence of a federation: all members' nodes ran on one machine, under one user.",
        "不得作为跨机构联邦的证据：全部成员节点由同一用户在同一台机器上运行。",
    ),
    "uncovered.selection": (
        "Choosing features or settings by looking at the same rows outside of tacit.",
        "在 tacit 之外查看同一批数据来选择特征或参数。",
    ),
    "uncovered.contract": (
        "Ranges and levels of the data contract, and how it parts rows, which count as public.",
        "数据契约中的取值范围、类别和划分方式，均视为公开。",
    ),
    "uncovered.units": (
        "Units that several members hold: they are covered once for each member.",
        "多个成员共有的对象：在每个成员处分别受一次保护。",
    ),
    "uncovered.channels": (
        "Side channels of a member's machine, such as how long it takes.",
        "成员机器的旁路信息，例如耗时。",
    ),
    # Data.
    "data.about": (
        "Contract {name}. Privacy protects each {unit}. Shown are the contract's own words, ranges and levels; no value of any row.",
        "数据契约 {name}。隐私保护的对象是每个 {unit}。此处仅列契约所载的说明、范围和类别，不含任何数据行的取值。",
    ),
    "data.members": ("Members", "成员"),
    "data.purposes": ("Agreed purposes", "同意的用途"),
    "data.kept_until": ("Rows kept until", "数据保存至"),
    "data.place": ("Where rows lie", "数据所在地"),
    "data.split": ("Test rows", "测试数据"),
    "split.none": ("named by the files", "由数据文件指定"),
    "split.uniform": ("drawn at random", "随机抽取"),
    "split.stratified": ("drawn at random, as many of each class", "按类别分层随机抽取"),
    "split.folds": ("each row in one of several folds", "分折轮流测试"),
    "split.units": ("units drawn by their name's hash", "按对象名称的散列值抽取"),
    "data.class": ("Class", "等级"),
    "data.unit": ("Unit", "单位"),
    "data.column": ("Column", "列"),
    "data.use": ("What for", "用途"),
    "data.source": ("Comes from", "来源"),
    "data.range": ("Range in the contract", "契约范围"),
    "data.note": ("Note", "说明"),
    "data.levels": ("{count} levels", "{count} 个类别"),
    "class.L1": ("public", "公开"),
    "class.L2": ("internal", "内部"),
    "class.L3": ("confidential", "机密"),
    "class.L4": ("secret", "绝密"),
    "use.input": ("model input", "模型输入"),
    "use.unused": ("input left aside", "未采用的输入"),
    "use.label": ("label", "标签"),
    "use.id": ("names the unit", "对象标识"),
    "use.time": ("time", "时间"),
    "use.exposure": ("exposure", "暴露量"),
    "use.member": ("names the member", "成员标识"),
    "use.part": ("training or test", "训练或测试"),
    "use.group": ("groups of figures", "指标分组"),
    "use.event": ("event", "事件"),
    "use.gate": ("quality gate alone", "仅用于质量检查"),
    "use.ignore": ("never read", "从不读取"),
    "use.feature": ("model input", "模型输入"),
    "use.sensor": ("model input", "模型输入"),
    "use.setting": ("model input", "模型输入"),
    "source.declared": ("declared", "申报"),
    "source.unstated": ("not stated", "未说明"),
    # Evaluation.
    "evaluation.about": (
        "On the members' test rows together, from one opened sum. Intervals are at 95 % and count rows as independent: where a {unit} has several rows they are too narrow.",
        "基于全体成员测试数据的一次求和结果。区间置信度为 95%，并假设各行相互独立：若同一 {unit} 有多行数据，则区间偏窄。",
    ),
    "evaluation.clustered": (
        "Here each {unit} has many rows, one after the other: take all intervals for too narrow.",
        "此处每个 {unit} 有许多连续的数据行：所有区间均应视为偏窄。",
    ),
    "evaluation.no_sum": (
        "The opened sum is not on this machine, so there are no intervals. Nodes that seal a run's model keep none.",
        "本机没有求和结果，因此没有区间。对模型加密保存的节点不保留该结果。",
    ),
    "evaluation.noise": (
        "The sum carries noise (standard deviation {noise} in each of its numbers). Where an interval is shown, it includes that noise. A unit counts as one row.",
        "求和结果含有噪声（每个数字的标准差为 {noise}）。所示区间已包含该噪声。每个对象计为一行。",
    ),
    "evaluation.fewest": (
        "Nothing is said of fewer than {fewest} rows, or of fewer events or non-events.",
        "少于 {fewest} 行，或事件数、非事件数少于此数的，不予公布。",
    ),
    "evaluation.metric": ("Metric", "指标"),
    "evaluation.group": ("Rows", "范围"),
    "evaluation.all": ("all", "全部"),
    "evaluation.value": ("Value", "数值"),
    "evaluation.interval": ("95 % interval", "95% 区间"),
    "evaluation.by": ("How the interval was made", "区间的算法"),
    "evaluation.noise_alone": (
        "noise alone: ± {noise} (one standard deviation)",
        "仅噪声：± {noise}（一个标准差）",
    ),
    "metric.auc": ("AUC", "AUC"),
    "metric.log_loss": ("Log loss", "对数损失"),
    "metric.calibration_error": ("Calibration error", "校准误差"),
    "metric.positive_share": ("Share of events", "事件占比"),
    "metric.average_precision": ("Average precision", "平均精确率"),
    "metric.rows": ("Test rows", "测试行数"),
    "metric.rmse": ("Root mean squared error", "均方根误差"),
    "metric.rmse_cap": ("Root mean squared error (life capped)", "均方根误差（寿命设上限）"),
    "metric.mae": ("Mean absolute error", "平均绝对误差"),
    "metric.mae_cap": ("Mean absolute error (life capped)", "平均绝对误差（寿命设上限）"),
    "metric.r2": ("Share of variance explained", "解释方差占比"),
    "metric.nasa_score": ("NASA score", "NASA 评分"),
    "metric.deviance_x100": ("Poisson deviance x 100", "泊松偏差 x 100"),
    "metric.null_deviance_x100": ("The same without a model", "无模型时的泊松偏差 x 100"),
    "metric.frequency": ("Frequency observed", "实际频率"),
    "metric.predicted_to_observed": ("Predicted to observed", "预测与实际之比"),
    "method.delong": (
        "DeLong 1988 on score bins, plus what ties in a bin can hide",
        "DeLong 1988，按评分区间计算，并计入同区间并列的影响",
    ),
    "method.hanley_mcneil": (
        "Hanley & McNeil 1982, with the noise",
        "Hanley 与 McNeil 1982，含噪声",
    ),
    "method.boyd": ("Boyd et al. 2013, on log-odds", "Boyd 等 2013，对数几率尺度"),
    "method.wilson": ("Wilson 1927", "Wilson 1927"),
    "method.wilson_noise": (
        "Wilson 1927, with the noise (Zou & Donner 2008)",
        "Wilson 1927，含噪声（Zou 与 Donner 2008）",
    ),
    "method.garwood": (
        "Garwood 1936, exact for Poisson counts; more spread than Poisson's is not in it",
        "Garwood 1936，对泊松计数精确；不含超出泊松的离散",
    ),
    "method.mean": (
        "central limit theorem, spread from the sums",
        "中心极限定理，离散程度由求和结果得出",
    ),
    "method.rms": (
        "tails from the ratio of mean to root mean square error (Geary 1935)",
        "由平均误差与均方根误差之比估计尾部（Geary 1935）",
    ),
    "method.rms_noise": (
        "tails from the ratio of mean to root mean square error (Geary 1935), with the noise",
        "由平均误差与均方根误差之比估计尾部（Geary 1935），含噪声",
    ),
    "method.none.rows": ("a count", "计数"),
    "method.none.biased": (
        "none: it is above 0 even for a perfect model; see the bins below",
        "无：即使完美模型也大于 0；见下方分组",
    ),
    "method.none.spread": ("none: the sums do not tell its spread", "无：求和结果不含其离散程度"),
    "method.none.noise": ("none: what the noise does to it is not known", "无：噪声对其影响未知"),
    "method.none.sum": ("none: the opened sum is not at hand", "无：本机没有求和结果"),
    "method.none.extreme": ("none: no pair was out of order", "无：没有次序错误的配对"),
    "method.withheld": ("withheld: too few rows or events", "不予公布：行数或事件数过少"),
    # Calibration.
    "calibration.about": (
        "Each point is rows of neighbouring scores: their mean score, and the share that it happened to, with its 95 % interval (Wilson 1927). On the line, score and share agree.",
        "每个点代表评分相近的一组数据：横轴为平均评分，纵轴为实际发生的比例，并附 95% 区间（Wilson 1927）。落在对角线上表示评分与实际一致。",
    ),
    "calibration.coarse": (
        "In a run with noise scores are summed in bins 0.6 of log-odds wide: a mean score may be off by up to half of that.",
        "含噪声的任务按宽 0.6（对数几率）的区间汇总评分：平均评分的偏差至多为其一半。",
    ),
    "calibration.predicted": ("Mean score", "平均评分"),
    "calibration.happened": ("Happened", "实际比例"),
    "calibration.rows": ("Rows", "行数"),
    "calibration.drawing": (
        "Calibration: mean score across, share that happened upward",
        "校准图：横轴为平均评分，纵轴为实际比例",
    ),
    "calibration.none.kind": (
        "This label is no chance, so there is no calibration plot; see the figures above.",
        "该标签不是概率，因此没有校准图；见上方指标。",
    ),
    "calibration.none.few": (
        "There are too few events or other rows for a plot, or noise hides them.",
        "事件或非事件过少，或被噪声淹没，无法作图。",
    ),
    "calibration.none.sum": (
        "The opened sum is not at hand, and so no bins.",
        "本机没有求和结果，因此没有分组数据。",
    ),
    # Stability.
    "stability.none": (
        "No rows were at hand when this card was made, so nothing is said of stability. Who has rows of this contract makes a card with: tacit model card RUN --data DIR",
        "制作本卡时没有数据，因此不说明稳定性。持有该契约数据的一方可用以下命令制作：tacit model card RUN --data DIR",
    ),
    "stability.about": (
        "Population stability index, computed on the machine of whoever made this card, from their own rows, which were sent nowhere. Below 0.1 stable, to 0.25 to be watched, from there shifted (Siddiqi 2006).",
        "群体稳定性指标（PSI），由制卡方在本机用自有数据计算，数据未外传。低于 0.1 为稳定，0.1 至 0.25 需关注，0.25 及以上为偏移（Siddiqi 2006）。",
    ),
    "stability.chance": (
        "A column that makes the groups is not compared between them. By chance: what it stays below 95 times in 100 where nothing differs, for so many rows (Yurdakul & Naranjo 2020).",
        "构成分组的列不参与组间比较。偶然值：在没有差异的情况下，同样行数的 PSI 有 95% 的机会低于此值（Yurdakul 与 Naranjo 2020）。",
    ),
    "stability.fewest": (
        "Nothing is compared with fewer than {fewest} rows, or with fewer than {units} of what the contract protects.",
        "少于 {fewest} 行，或少于 {units} 个受保护对象的，不作比较。",
    ),
    "stability.withheld": ("withheld: too few rows", "不予公布：行数过少"),
    "stability.exact": (
        "No noise is in these figures: the privacy of the run does not cover them.",
        "这些数字不含噪声，不在训练任务的隐私保护范围内。",
    ),
    "stability.group": ("Compared", "比较对象"),
    "stability.part": ("test rows with training rows", "测试数据与训练数据"),
    "stability.member": ("member {name} with all others", "成员 {name} 与其余全部"),
    "stability.level": ("{by} {name} with all others", "{by} 为 {name} 者与其余全部"),
    "stability.score": ("Score", "评分"),
    "stability.by_chance": ("By chance", "偶然值"),
    "stability.verdict": ("Verdict", "结论"),
    "stability.moved": ("Inputs shifted / to be watched", "偏移 / 需关注的输入"),
    "stability.most": ("Input that moved most", "偏移最大的输入"),
    "stability.column": ("Input", "输入"),
    "stability.column_part": ("Test with training", "测试与训练"),
    "stability.column_most": ("Most in a group", "组间最大"),
    "stability.column_group": ("In which", "所在组"),
    "stability.columns": ("Each input", "各项输入"),
    "band.stable": ("stable", "稳定"),
    "band.watch": ("watch", "关注"),
    "band.shifted": ("shifted", "偏移"),
    # Shapes.
    "importance.about": (
        "How far each input moves a score: mean absolute amounts over {rows} test rows of {members} members, at most 2,000 of each, opened as one sum. A large share says what the model uses, not what causes the outcome.",
        "各输入对评分的影响程度：{members} 个成员共 {rows} 行测试数据（每个成员至多 2,000 行）的平均绝对贡献，仅以一个总和公开。份额大说明模型使用该输入，并不说明因果。",
    ),
    "importance.hidden": (
        "No member's own figures are known to anybody else.",
        "任何成员自身的数字不为他人所知。",
    ),
    "importance.none": (
        "The run did not sum what its model leans on (explain: true; not in runs with noise), or fewer members or rows than may be spoken of answered.",
        "该任务未汇总模型所依赖的输入（explain: true；含噪声的任务不支持），或参与的成员、数据行过少，不予公布。",
    ),
    "importance.scale.binary": ("In log-odds.", "单位：对数几率。"),
    "importance.scale.count": ("In log of the rate.", "单位：频率的对数。"),
    "importance.scale.value": ("In the label's unit.", "单位：标签的单位。"),
    "importance.scale.life": ("In the label's unit.", "单位：标签的单位。"),
    "importance.input": ("Input", "输入"),
    "importance.amount": ("Mean size", "平均绝对贡献"),
    "importance.share": ("Share", "份额"),
    "shapes.none.hidden": (
        "This model has hidden layers: it is no sum of curves, so what a column adds depends on all others, and no plot of one column would be true.",
        "该模型含隐藏层，不是曲线之和：某列的作用取决于其他各列，单列的图形不能如实反映。",
    ),
    "shapes.none.windows": (
        "This model reads windows of readings: it is no sum of curves over columns, so there is no plot of one.",
        "该模型读取时间窗口，不是各列曲线之和，因此没有单列图形。",
    ),
    "shapes.about.average": (
        "The model is the sum of these curves and nothing else. Amounts are against the mean over the members' training rows. Those that matter most come first; each panel has its own scale.",
        "模型即为这些曲线之和，别无其他。数值以成员训练数据的均值为基准。按重要程度排列；各图刻度不同。",
    ),
    "shapes.about.range": (
        "The model is the sum of these curves and nothing else. Amounts are against the middle over a column's range in the contract, as a run with noise opens no sum of it. Those that matter most come first; each panel has its own scale.",
        "模型即为这些曲线之和，别无其他。数值以契约范围的中间水平为基准，因为含噪声的任务不公开均值。按重要程度排列；各图刻度不同。",
    ),
    "shapes.scale.binary": ("Upward: log-odds.", "纵轴：对数几率。"),
    "shapes.scale.count": ("Upward: log of the rate.", "纵轴：频率的对数。"),
    "shapes.scale.value": ("Upward: the label's unit.", "纵轴：标签的单位。"),
    "shapes.scale.life": ("Upward: the label's unit.", "纵轴：标签的单位。"),
    "shapes.base": ("Base: {base}.", "基准值：{base}。"),
    "shapes.missing": ("missing: {amount}", "缺失：{amount}"),
    "shapes.weight": ("matters {weight}", "重要程度 {weight}"),
    "shapes.drawing": ("What {column} adds", "{column} 的作用"),
    "shapes.cut": (
        "the {shown} of {count} levels that say most",
        "共 {count} 个类别，显示作用最大的 {shown} 个",
    ),
    # Privacy.
    "privacy.none": (
        "No noise was added. What is opened is hidden in sums over members, but nothing bounds what the model itself tells of one {unit}: there is no epsilon.",
        "未添加噪声。公开的只有成员之间的求和结果，但模型本身对单个 {unit} 的透露没有上界：没有 epsilon。",
    ),
    "privacy.proven": (
        "Proven, for one {unit} more or less, delta {delta}, by {method}:",
        "可证明的上界（增减一个 {unit}，delta 为 {delta}，算法 {method}）：",
    ),
    "privacy.coordinator": (
        "against the coordinator with {colluders} other member(s): epsilon {epsilon}",
        "面对协调方及 {colluders} 个其他成员串通：epsilon {epsilon}",
    ),
    "privacy.solo": (
        "if all other members collude: epsilon {epsilon}",
        "其他全部成员串通：epsilon {epsilon}",
    ),
    "privacy.attack": (
        "In plain words: whoever guesses which {unit}s took part, and may be wrong about one in a hundred of the others, finds at most {share} in a hundred.",
        "通俗地说：若有人猜测哪些 {unit} 参与了训练，并允许对未参与者错判百分之一，则至多能找出百分之 {share}。",
    ),
    "privacy.noise": (
        "Noise of a step: {multiplier} times the clip of {clip}; each {unit} is in a step with probability {rate}.",
        "每步噪声：裁剪长度 {clip} 的 {multiplier} 倍；每个 {unit} 以概率 {rate} 参与一步。",
    ),
    "privacy.empirical": (
        "Empirical: an attack with {canaries} canaries on this run's own noise, {steps} steps, shows an epsilon of at least {lower} (as for a Gaussian: {gaussian}; {confidence} confidence each), where {claimed} is proven for these steps. Measured noise {measured} clips, claimed {multiplier}.",
        "实测下界：用 {canaries} 个探针攻击本任务自身的噪声，共 {steps} 步，测得 epsilon 至少为 {lower}（按高斯假设：{gaussian}；置信度均为 {confidence}），这些步骤可证明的上界为 {claimed}。实测噪声为裁剪长度的 {measured} 倍，声明为 {multiplier} 倍。",
    ),
    "privacy.no_audit": (
        "Empirical: no attack on this run's noise was made. tacit run launch makes one at the end of each run with noise whose model it keeps.",
        "实测下界：未对本任务的噪声进行攻击测试。含噪声且保留模型的任务结束时，tacit run launch 会自动进行一次。",
    ),
    "privacy.nothing_to_audit": (
        "Empirical: no audit was made, as there is no noise to attack. Launch with a privacy section in the run's config, and the launch makes one.",
        "实测下界：没有噪声可供攻击，因此未做审计。在任务配置中加入 privacy 一节，启动时会自动进行。",
    ),
    # Protection.
    "sum.masked": (
        "The coordinator reads the sum, and nobody a member's part of it.",
        "协调方只能读到总和，任何人都读不到单个成员的部分。",
    ),
    "sum.sealed": (
        "The coordinator reads nothing, and nobody a member's part of the sum.",
        "协调方什么也读不到，任何人都读不到单个成员的部分。",
    ),
    "sum.ckks": (
        "The coordinator reads nothing; together with any one member it reads everything: not collusion-resistant.",
        "协调方什么也读不到；但与任一成员串通即可读到全部：不抗串通。",
    ),
    "sum.clear": ("Nothing is hidden from the coordinator.", "对协调方没有任何隐藏。"),
    "protection.sum": ("Kind of sum", "求和方式"),
    "protection.suite": ("Suite of algorithms", "算法套件"),
    "protection.cohort": ("Fewest members in a sum", "求和的最少成员数"),
    "protection.robust": ("Robust aggregation", "稳健聚合"),
    # Lineage.
    "lineage.run": ("Run", "训练任务"),
    "lineage.model": ("Weights", "参数"),
    "lineage.manifest": ("Manifest", "任务清单"),
    "lineage.contract": ("Data contract", "数据契约"),
    "lineage.statistics": ("Opened statistics", "公开的统计量"),
    "lineage.evaluation": ("Opened test sum", "公开的测试求和"),
    "lineage.rules": ("Rules", "规则"),
    "lineage.ledger": ("Ledger", "账本"),
    "lineage.ledger_key": ("Its key", "账本公钥"),
    "lineage.place": ("Place in it", "账本位置"),
    "lineage.entry": (
        "entry {entry} registers the model; {leaves} entries before, root {root}",
        "第 {entry} 条登记本模型；此前 {leaves} 条，根 {root}",
    ),
    "lineage.no_entry": (
        "{leaves} entries at the run's end, root {root}; the ledger is not on this machine",
        "任务结束时 {leaves} 条，根 {root}；账本不在本机",
    ),
    "lineage.facts": ("These facts", "本卡内容"),
    "lineage.about": (
        "Digests are SHA-256, hexadecimal; tacit audit verify computes all of the ledger again.",
        "摘要为 SHA-256（十六进制）；tacit audit verify 可重新计算整个账本。",
    ),
    # Signatures.
    "signatures.manifest": (
        "What the members agreed on was signed by {name}, and the signature holds.",
        "成员共同认可的任务清单由 {name} 签署，签名有效。",
    ),
    "signatures.second": (
        "A second member had to sign it too; the ledger has that signature.",
        "另有一名成员须会签；会签记录在账本中。",
    ),
    "signatures.no_second": ("No second member had to sign it.", "无须其他成员会签。"),
    "signatures.card": (
        "The JSON beside this page is signed by the same key. Whose key it is, learn by another way than this file.",
        "同名 JSON 文件由同一密钥签署。密钥属于谁，须通过本文件以外的途径确认。",
    ),
    "signatures.key": ("Key", "公钥"),
}


def _of(place: int) -> Mapping[str, str]:
    return MappingProxyType({key: words[place] for key, words in _TABLE.items()})


WORDS: Final[Mapping[Language, Mapping[str, str]]] = MappingProxyType(
    {language: _of(place) for place, language in enumerate(LANGUAGES)}
)
"""Language -> key -> words."""

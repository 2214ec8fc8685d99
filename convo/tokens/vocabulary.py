"""Frequent tokens that OpenAI's o200k_base and cl100k_base have in common, for the estimate.

They were chosen by what they save on English, on code and on other languages. `tests/test_tokens.py` checks
each of them against both encodings.
"""

# Tokens in four forms, capitalized or not, after a space or not: "the", "The", " the", " The".
WORDS = r"""
ab ability about above abs absolute abstract ac acc accept access according account ack act action actions
active activity actual actually ad add added adding additional addr address admin adult adv aff after ag
again against age agent aggregate ah ahead ai air airport al ale algorithm ali alias align all allow allowed
allows almost along alpha already als also alt alternative although always am amb among amount an ana
analysis anc and android ang ann annotation another answer answers ant any anything ap apache api app append
apple application applications apply approx apr ar architecture archive are area areas arg args argument
arguments arm around arr array art article artifact as aside ask ass assert assistant associated ast async
at att attach attachment attack attempt attention attr attribute attributes au audio auf aus aut auth
authentication author authority authorization auto available average avoid await away ay ba baby back
backend background backup bad bag balance ball bank bar base based basic bat be bear beat beautiful because
bed been beer before begin behavior bei being below ben ber best beta better between bi big bill bin binary
binding birth birthday bit bits bl black blank blo block blood blue bo board body bone book books bool
boolean border born boss both bottom boundary box boy br brain bre break breaking bridge brief bright bring
broken brown browser bu budget buf buffer bug build builder building built bullet bundle burn bus business
busy but button buy by byte bytes ca cache cached cal calendar call callback called calling calls camera
campaign can candidate cannot cap capital capture car card care career cars cas case cases cash cast cat
catalog catch category cause ce cel center central centre certificate ch cha chair challenge change changed
changes changing channel chapter char character characters charge charset chart chat che cheap check checked
checks chi child children choice choices choose chr chunk church ci circle cit city cl cla claim claims
class classes clean clear cli click client clock close closed closing closure cloud cluster cmd co cod code
codes coffee col cold collect collection collector college color colour column com combine come coming
command commands comment comments commercial commit common community compact company compare comparison
compatible compile compiler complete complex component components compute computer con condition conditional
conditions conference config configuration configure conn connect connection consider console const constant
constraint construction constructor contact container contains content contents context continue contract
control conversation convert cook cookie cookies cool copy copyright cor core corner correct cost could
count countries country course court cover cr cre create created creating creation credential credit cri
crime cro cross crypto cs css cu cube culture cur current currently cursor custom customer customers cut cy
da damage dan dark das dat data database dataset date day days db de dead deadline deal death debug dec
decimal decision declare decode deep def default defaults define defined definition degree del delay delete
delivery delta dem den dep department dependencies dependency deprecated der derived des describe
description descriptor design det detail details dev develop development device di dia dict dictionary did
die diff difference different dir direct direction directive director directory dirty dis disable disabled
discover discussion display dist distance distribution div do doc docs doctor document documentation
documents does dog doing domain don done door double down download dr draft draw drawing dream drink drive
driver drop dry dt du due dump during dynamic each ear early earth east easy eat eb ec echo ed edge
education ef effect eight ein either ek el ele element elements else em email employee empty en enable
enabled enc encode encoding encrypt end endpoint energy engine ens ensure ent enter entries entry enum env
environment ep epoch eq equal equipment er err error errors es escape esp ess essay est et eu ev eval
evaluate even event events every everyone everything ex example examples exc except exception exceptions
exec execute exist existing exists exit exp expect expected experience experimental explicit export expr
express expression ext extend extension extensions external extra extract ey eye fa face fact factor factory
fail failed failure fair fake fall false family far farm fast father favorite fe feature features feel fetch
few fi field fields fig fight figure fil file filename files fill film filter fin final finally financial
find finding fine finish fire first fish fit five fix fixed fixture fl flag flags flat flight float floating
floor flush fly fn fo focus folder follow following font foo food foot football for force foreign forest
forget forgot form format former forms fortunately forward found foundation four fr fra frame framework fre
free friend friends from front fs fu full fully fun func function functions future ga gain gallery game
games ge gen general generate generated generation generator generic geo ger get gets getting gi gift girl
git github give given global go goal god going gold good google got government gr grammar grand gray great
green grey gro ground group groups grow gu guess guest guide gun ha had hair half han hand handle handler
handling hands hang happy har hard hardware has hash have having he head header headers health heart heat
heavy height hello help helper hen her here hey hi hidden hide high highlight his history hit ho hold
holiday home hook hooks hope horizontal hospital host hot hotel hour hours house how however html http hub
ice ich icon id ide identifier identity if ignore il ill im image images img imp impact implement
implementation import important in inc include included includes including income increase ind index
individual industry inf info information ing ini init initial initialize inline input ins inside install
installation installed instance instances instead insurance int integer interactive interest interesting
interface internal international internet interval into inv invalid invoice io ion ip ir is iso iss issue
issues it item items iterator its ja javascript je jo job join js json judge jump just ka ke keep keeping
key keyboard keys keyword ki kid kids kill kind know knowledge known kom kr la label lake land lane lang
language languages large las last late later latest law layer le lead leader leading leaf learn learning
least leave left leg legacy legal len length les less lesson let lets letter letters level lex lexer li lib
library lic license lie life light like likes limit limited lin line lines link links linux list listen
listener lists literal little live living lo load loc local locale location locator lock log logging logic
logical login long look looking looks lookup lost lot lots love low lower lt lu ly ma mac machine made magic
mail main maint maintenance major make maker makes making mal man manage management manager manual many map
mapping mar margin mark market master mat match matches matching math max maximum may maybe mc md me meal
mean means measure media meet meeting mem member members memory men menu merge mess message messages met
meta metadata method methods mi middle migration min mind mine minimum minor minute minutes mis miss missing
mit mo mod mode model models modern modify module modules mom moment mon money month moon more most mother
mount mouse move moves movie moving mp ms msg much mul multiple music must mut my na nam name named names
namespace nation national native natural nature nav navigation nd ne near need needed needs negative
neighbor net network never new news next ng ni nice night nil nine no node nodes nom non none nor normal
north not note notes nothing notice notifications now nr nu null num number numbers numeric ob obj object
objects obs oct od of off offer office offset often oh oil ok okay ol old om on once one only ont op open
opening operation operations operator operators ops opt option optional options or orange ord order orders
org organization origin original os ot other others otherwise our out outline output outside over overlay
override own owner pa pack package packages pad pag page pages paid paper par paragraph parallel param
parameter parameters params parent parents park parse parser part partial partition partner parts party pas
pass passed password past pat patch path paths patient pattern pay payment pe peace pen pending people per
percent perfect perform performance perhaps period permission permissions person pg phone photo phrase
physical pi pic pick picker picture piece pieces pin pink pl place places plain plan plane plans platform
play played playing please plugin plugins plus po pod point pointer points pol policy pool pop popular
population por port pos position positive possible post potential pour power pr practice pre precision
preferred prefix prepare present press pressure pretty prev previous pri price primary primitive principal
print priority private pro prob probably problem proc procedure process processor product production
products professional program progress project promise prompt proof prop properties property props protect
proto protocol prototype provide provider proxy ps pt ptr pu pub public publish pull purple purpose push put
px py python qu qualified quality quantity quarter que query question questions qui quick quiet quit quite
quote ra race radio rain raise raised ram range rate rather raw re reach react read reader reading ready
real really reason rec receive received recent recipe recommend record records recursive red redirect redis
reduce ref refer reference references reflect reg regex region register registry regular rel related
relationship relative release rem remember remote remove removed ren render rep repeat replace replacement
reply report repository represent representation req request requests require required requirements requires
res research reserved reset resolve resource resources respond response responses rest restaurant restore
result results ret retrieve return returned returns review revision rich right rights ring risk river ro
road rock rol role room root round route router routine row rs ru rule rules run running runs runtime sa sad
safe salary sale sales salt sam same san sand sat save saved say sc scalar scale scan scenario scene sch
schedule schema scheme school science scope scr screen script se sea search season seat sec second seconds
secret section security see seed seeing seen seg sel select selected selector self sell sem sen send sending
sense sent sentence sequence ser series serve server service services session sessions set sets setting
settings setup seven sex sh sha shape share shared she sheet shell shift ship shoot shop short shot should
show shows si side sidebar sie sig sign signal signature sim similar simple sin since sing single singleton
sit site six size sk skill skills skin skip sky sl sleep slice slow sm small smart sn snapshot snow so
social socket soft software sol sold solution some someone something sometimes son song soon sorry sort
sound source sources south sp space span spe spec special specific speech speed spi spinner split sport
spread spring sql square src st stack staff stage stand standard standing star stars start started starting
stat state statement states station statistics status stay std ste step steps stick still stone stop storage
store stored stories storm story str straight strategy stream street strict string strings strong struct
structure student students studio study stuff style su sub subject submit success successful such sum
summary summer sun sup support supported sur sure surface survey sw switch sym symbol syn sync syntax sys
system ta tab table tag take taken taking tan tar target targets task tasks tax te teacher team technical
technology ted tell tem temp template templates temporary ten ter term terminal terms tes test testing tests
tex text th than thank thanks that the their them theme then there these they thin thing things think
thinking this those though thought thread threads three through throw thus ti ticket tim time timeout timer
timestamp tiny tips title to today token tokens too tool tools top topic tor total touch town tr tra trace
track trade traditional traffic train training transform transition translate translation transport travel
tre tree trees tri trial trigger trip tro true trust truth try trying ts tu tuple tur turn tutorial two txt
ty typ type typed types ub ui uint ul ult um un una unable und undefined under une uni unicode union unique
unit unix unknown unless unsupported unt until up update updated updates upgrade upon upper ur uri url us
usage use used user username users uses using usually ut utf util utilities utils va val valid validate
validation validator value values var variable variables variant ve vector ven ver version versions very vi
via video view views visibility visible visit visitor vo voice void volume vote vue wa wait waiting wake wal
walk walking wall want war warm warning was watch water wave way we weak weapon weather web website week wei
weight welcome well wer were west wh what whatever when where whether which while white who whole why wi
wide width wild will win wind window windows winner winter with within without woman women won wood word
words work worker workers working works world would wow wrap wrapped wrapper write writing written wrong xi
xml ya ye yeah year years yellow yes yet you young your ze zero zip zone
"""

# Tokens with or without a space before them. ↵ stands for the end of a line, here and below.
LOOSE = r'''
ABI ACS ACTION AD ADD ADV AGE AI AL ALL ALTER AM AMP AN AND ANT ANY AP API AR ARG AS ASCII ASE AST AT ATTR
AUT April August BA BASE BAT BE BEGIN BIG BL BLE BO BR BU BY CA CASE CAST CC CE CES CH CHE CI CK CL CLASS CM
CMD CO COD COL COM COMMAND CON CONFIG CP CR CREATE CT CTRL Callable Chinese DAT DATA DB DE DEBUG DEFAULT
DESCRIPTION DI DIR DIRECT DIS DO DOM DP DROP DS December EA EC ED EE EL EM EN ENC END ENT ER ERA ERROR ES ET
EX EXP EXPORT EXT FA FACE FE FF FI FIELD FILE FLAG FLAGS FLOAT FO FOR FORM FROM FTP FUNC FUNCTION February
Friday GA GB GC GE GET GF GH GL GNU GR GU HA HE HI HO HTML HTTP Harness Helvetica IA IAM IB IC ICT ID IE IF
IG IM IMP IN INCLUDING INDEX INPUT INS INT IO IOC IP IR IS ISO ISP IT IX Introduction JOIN JSON January July
June KB KE KEY LA LAN LANG LD LE LES LI LIB LICENSE LIN LINK LL LOCATION LS LT MA MAN MAS MAX MD ME
MERCHANTABILITY MES MET META MI MIN ML MM MODULE MP MS MU March Monday NA NAME NC ND NE NG NO NOT NOTE NS NT
NULL November OB OC OF OK OL OM ON OP OPEN OR ORDER OS OTHER OU OUT OUTPUT October Overrides PA PACKAGE PAR
PAT PATH PE PER PI PL PM PO POL POS PRE PRI PRIMARY PRIVATE PRO PT PUBLIC RA RD RE RED REF REG REGISTER REP
RES RESOURCE RET RETURN REV RFC RG RI RO RS RT SA SAFE SC SE SEC SELECT SES SET SH SI SIZE SL SO SOURCE SP
SQL SS SSL ST STA STD STR SU SUB SY SYSTEM Saturday September Specify Sunday TA TABLE TARGET TD TE TER TEXT
TH THE TI TLS TO TOR TP TR TS TT TYPE Thursday Tuesday UC UE UI UL UN UP UPDATE UR URI URL US USE UT UTF UX
VAL VALUE VAR VE VERSION VI VIEW WA WHERE WI WIDTH WITH WITHOUT WR WRITE Wednesday XML XS abc able ach agg
ago agree ain alone amo amp annotations appear appropriate ard aren asking asks ata ate attrs avec aware bac
bash basis belief bike bil ble blk boat bread bringing bt builtin bye came canonical carry caught cc ces
chosen ck cls cm cmp comes compress compressed confidence consistent consume contain continued contrast
contributors cp ct ctx cup dad dance datetime daughter dbl dc dd deb decrypt deliver depend dependent
depends digits din directories distinct distributed divide django dl dp dress ds ea economic ect edi ee een
eg egg eh ei ej elif els embedding emotion endif eo era ere erm ern ero ers erv ese especially etc ew exe
extern eyes facts fails fallback favor fd fell felt fer ff ffi fh fic finger fir flatten flower formatted fp
fruit ftp gb gc ges gf gh gin gist gle gli gm gn gone goo gra grass grep grown growth gs gt gzip habit hai
haven hdr hear heard held hill him hin hl holding holds hole hostname hr href hs ht htt https ia iam ib ic
idea ideas identify ie ig ile ili ime implicit indent ine inet inherit ink inspect inspection institution
interpret ire isbn ise isp ist ive ker kg ks kw kwargs lar laws lc ld lf lh libraries licenses ligne liked
likely ling lis listed ll lol lose lp ls mai matter meaning medicine ment mention mentioned might million mk
ml mm mn mouth nc necessary neck nn nod nop np ns nt oc ode oder oid oma omit omp ons opened ora ore ori orm
ort ost ou oud ought ours pain parsed particularly passwd pec perl pid pla plays ple pm pn png populate
possibly pp pragma prefer prevent prints produce prove provided pytest qua quoted ran rat rd readonly refund
remain reported respect restrict restriction retain rewrite rg ri rice rin rise rit rl rm roof rr rt rut rv
ry said sei selling shall shown sizeof solve specified spent spoken ss ssl sta stands starts stderr sto
stood stress stylesheet suffix suggest supports takes tal tat tc td tea tee textbox tg tic tie til tin ting
tion tl tls tm tone tp tribute tries truck tt turned typedef typeof typically typing tz ua ud ue ug unc
undef underscore ung unlikely unsigned ure usa usr usual uuid variants verbosity vic vim vm von wanted
warnings wash ways wear went whose wife wine wor worked worth www xs xt yaml yard yc yn za zi zu """ """↵
"""↵↵ ") ")↵ ", ",↵ ": "> ">↵ "] "↵ "↵↵ ## ### && '" ') ');↵ ', ',↵ '. ': '↵ (" ($ (' (( () ()↵ (_ (↵ )) ),
),↵ ). ).↵↵ ):↵ ); );↵ );↵↵ ){ )↵ )↵↵ ** */↵ */↵↵ *↵ *↵↵ ++ ,↵ -- --↵ -> .. ... .↵ .↵↵ /* /**↵ /*↵ // /> />↵
:: :↵ :↵↵ ;↵ ;↵↵ <$ </ << <= =" == === => >( >< ></ >= >> >↵ >↵↵ [" [- [↵ \↵ ]) ], ]] ]↵ __ __( `. `` ``` `↵
{↵ || }) };↵↵ }↵ }↵↵ añ för kö lä né qué rá ré vé wię äl än är år ça éc él és ét été être ön ún über şi że
și Вы Об Пр ав ак вер да дел его иг из им ин ключ ко ли лю мен мож на нач не нов об од ок он оп ос от оч
прав работ раз ск сл сп ст стр то форм ال 使用 修改 创建 初始化 删除 参数 商品 如果 数据 文件 方法 时间 是否
更新 查询 注意 添加 用户 获取 设置 请求 输入 输出 返回 页面 默认
'''

# Tokens that always have a space before them.
SPACED = r"""
ARISING AUTHORS BUSINESS BUT CONSEQUENTIAL CONTRACT CONTRIBUTORS COPYRIGHT COST CPA DAMAGES DEALINGS Django
EXEMPLARY EXPRESS FAMILY FITNESS GOODS Graham HOLDERS HOWEVER IMM IMPLIED INCIDENTAL INTERNAL INTERRUPTION
Informationen KIND Ko LANGUAGE LIABILITY LIMITED LW NEGLIGENCE NONINFRINGEMENT OTHERWISE PARTICULAR
POSSIBILITY PROCUREMENT PROVIDED PURPOSE Perl Pun RETURNS Redistributions SOFTWARE SPDX SPECIAL STRICT
SUBSTITUTE Sta THEN UNIQUE USING Vim WARRANTIES WARRANTY WHEN WHETHER YAML absolutely accumulator achieve
across addition admit advantage advice affect afford afraid afternoon agreement amazing ancient angry
announced anyone anyway anywhere apart apparently appeared applied approach arbitrary argue army arrive
arrived asked assertion assume attend audience aunt automatically autumn awful basically bathroom become
becomes becoming bedroom began beginning behaviour behind believe believed benefit benefits beside besides
beyond bgcolor bored boring bottle bought brainstorm breakfast brings broad broke brother brought btw butter
buying cancer careful carefully carried caused causes cellpadding cellspacing century certain certainly
chance cheese chest chicken clearly clothes commande compared compatibility complain completely complicated
concern considered containing contrib cooking corresponding costs couldn couple customs dangerous dans dear
debate debugging decade decide decided decisions declaration decorator defense definitely demand described
describing despite determine developed didn died difficult dinner directly disclaimer discuss disease doesn
dollar dollars drawn drew driven driving drove dying easily economy effort eggs eighteen eine election
eleven encourage enjoy enough entirely entitlement equivalent establish euro evening everybody everywhere
evidence exactly excellent excited excuse executable expensive explain explained explicitly expressions
extremely fallen falling famous fashion fear feeling feelings feels feet fichier firewall followed
formatting functionality funny further garden gave generally gives giving glad goals goes goodbye
grandfather grandmother grew growing guarantee guy guys hadn happen happened happening happens hasn hate
hearing helped helping helps herself highly himself hmm huge hundred hurt husband imagine immediately imply
impossible improve improved increased indeed independent indicate indicating individuals influence
instanceof intend involve involved isinstance island isn itself journey keeps kept killed killing kitchen
knee knew knowing knows lack laptop lawyer leads learned leaving letting limitation lived lives locate
lonely looked losing loved lunch magazine maintain majority matters meant meat mechanism milk mistake moral
morning mountain moved myself narrow nearby nearly neighbour neither newspaper nicht nobody noqa nose
nowhere nurse obvious obviously occur ocean offered omitted opinion opportunity opposite ourselves
overridden particular passing paying permitted playwright poem police polite political politics poor
positional posture pound practical president previously prison prize problems produced professor programs
promised promote proud provides putting quickly rare reached reality realize reasons recently recognize
redistribute relate relevant religious remained remembered remembering repertoire reproduce responsible
reveal rude salad satisfy saw saying says scared seem seemed seems separate serious served several shoulder
shouldn showed showing shut sick significant silence simply sister sitting situation sixty slightly slip
slowly smell smile smoke society somebody somewhere sont soul soup sourced speak speaking specification
specifies specify spend spending spirit spoke standalone stayed staying steal stomach stopped stopping stops
strange struggle studies substantial suddenly sugar suggested suggestions suggests suit summarize supplied
supply suppose supposed surprise surprised survive tall taste teach technique teeth television telling tend
terrible theirs themselves theory therefore thick thinks thirty thoughts thousand threat till tired together
told tomorrow tonight took tooth tough toward towards tradition trailing treat treatment tried trouble
tuples turning turns twelve twenty twice ugly uncle unclear understand understanding understood university
useful useless vacation valign variety various vast vegetable vegetables victim village violence waited
walked wants wasn waste wearing wedding weekend weird werden weren wet willing winning wird wonder wonderful
wore worried worry worse worst wouldn wrote wurde yesterday yours yourself José Mé après así até año años
będ cré có că dé déc día está están få fö für gö há hö iç için já któ które który kön können kø là lí moż má
más må mé méd mét même mö não nä nå número où país più polít pré prés pró på rég rés será się são så sé sí
só sø să są também très télé të você væ ví víde wür était în últ Если баз буд будет бы быть вид врем вс все
вы выб вып данные данных дв для до добав долж дост если есть за заг зад зак зап знач измен или исп как класс
код кол ком комп кон конт кор котор метод мод может нет номер нуж объ объект пар пер перв перед перем по под
пол получ пом пр пред при про пров провер рас св сер со содерж сообщ спис список строк так тек текст тип
товар только удал указ фай чис число чт что эт это است الت الم با به در في من 下午 生命周期 生命周期函数
示例 가능 가져 값을 객체 결과 경우 데이터 리스트 문자 반환 배열 변경 변수 사용 삭제 생성 선택 설정 수정 시작
실행 위치 이름 이미 입력 있는 있다 저장 정보 조회 처리 초기 추가 출력 코드 클래스 파일 페이지 함수 해당 호출
확인
"""

# Tokens that never have a space before them.
TIGHT = r"""
ABLE AKE AME ANDROID ATE CED Ctx ECT EDI ENSION FTA HN IES ILE ING ION IONS IOR LER LOUD NOP ODE ORAGE ORT
PACE PHA RAR TION UAL UME URE URNS UTE WO YPE ZE aclass ags ake ala alty ame andle apis aps ati ation ations
ator batim cco cing cks cplusplus cstring ction dde ean ement ena eri erp ert ete etz faq gments herited ial
ian ical ics ien ifi ification ified ifndef ify iguous ilarity ina ism isting ita ite itespace iti itlement
ity ize ject lation lte ltr lz nable nbsp nda nde nge nte oad oca ocation oke oken olicies olicy ona onn oot
ope opensource ose ove plit ql quet rea ree ress ression ssi startswith sti tring tsx tte ttp uation ugg uis
ula ume uple urses uti wright xz yle ym ype yw zione ">< ';↵↵ ()` ._ .↵↵↵ .↵↵↵↵ .↵↵↵↵↵↵ /" :// :` ="# >, >.
>.↵ >` `, ación ają ará ação ações aña cción emás ención fü iał ición ità ität ité ités ización iß ição ière
ién ió ión jà ją ję lı ności pués ución zą ße ßen ác ág ál ám án ár ário ários ás át ável ân ão äch äd äh
ähr äll ält änd äng änner ät ää ær ço ção ções ème ère ères ès éd ée ées ég élé ém ément én éné ér éri éric
érie êm ême ên ência ês ête ía ían ías íc ícul ín ío ís íst ít ível ña ño ños ód óg ón ós ów ông ôt ões ör
ös öt ør ús ück üh ük ül ün ünd ür üss üt ęd ği ğı ık ım ın ında ını ır ış ła ład ło ły łą ści ść ży ượ ți
αι ου Не От Ст аб аг ад аем ает ается аж аз ай ал али аль ам ами ан анд ани ание ания ап ар арт ас асс ат
ата атель атор ать ач аш ая вед вет вод го дал дин др еб ев ег ед ее еж ез ей ейств ек екс ект ел ели ель
еля ем ен ена ени ение ений ения ено ент ены ень еп ер ерж ес ест ество ет ется еч еш же ив ид ие ии ий ик
ика ил иль имер ина ип ир иров ис ист ит ите итель ить иф их ич ичес ия ка каз ке ки ку ла лав лад лат лем
лен ление ления ло ль люч ля ляем ма мер ми ная ни ник но ного ное ной ноп ности ность ную ны ные ный ных ня
обав ображ общ обы ов овар ог ого ограм ое ож оз ой ока ол олж олн олов оль ольз олько ом ому она ор орм ост
отор оя пис ра рав рам ран рат ращ ред рем ри ров рос ру руг руз ры ски сли став стан станов ств сти строй
струк сть сы сыл ся та те тер ти тор ть уб уд ует уж ук ульт ум ун унк уп ур ус уст ут уч ущ ую ующ ход
ходим ци ции ция чет ше ши ыв ые ый ых ют яз اء اب ات اد ار اس اف ام ان ای بر ده دي رو ست لا لى ود ور ول ية
ير يل ید یر ین ्र กร การ ัน ับ าร ิน ีย ี่ ือ ื่ ูล ไม ่า ้อ ้อม ้า ại ản ập あり ありが ありがとう いう います から
ください この これ こん こんに こんにちは ござ さい され さん しか しかし した して します する そして その
それ ただ ちは って です では でも とう ました ます また イト イン コメント スト ック ット ピー メント ラン
ログ ング ント ージ ース ート ード ール 一个 万元 上传 下载 不存在 不能 不能为空 中国 为空 事件 产品 亿元
今年 代码 以上 以下 价格 任务 位置 作者 例如 保存 信息 全部 公司 关闭 其中 其他 内容 函数 分享 分类 分钟
列表 功能 加载 北京 单位 发布 发送 取消 可以 可能 同时 名称 周期 图片 在线 地址 声明 处理 备注 大小 失败
姓名 字段 字符 字符串 存在 完成 定义 审核 密码 对象 小时 属性 开始 异常 当前 微软雅黑 成功 我们 我的 所有
手机 手机号 执行 报道 按钮 排序 描述 提交 提示 搜索 操作 支付 数字 数据库 数组 数量 文字 文章 新增 方式 日期
显示 時間 有效 服务 服务器 权限 条件 来源 标题 格式 正在 正确 没有 注册 测试 消息 点击 無料 版本 状态 生成
用户名 电话 登录 监听 监听页面 相关 确定 确认 程序 管理 管理员 类型 系统 结束 结果 编号 编辑 网络 联系 自治
节点 表示 视频 記事 订单 记录 设计 评论 详情 说明 请输入 请选择 资源 路径 进行 连接 退出 送料 选择 通过 邮箱
配置 重新 金额 链接 错误 长度 问题 隐藏 雅黑 需要 项目 首页 验证 验证码 니다 로그 번호 세요 스트 습니다 에서
으로 으면 입니다 주세요 하기 하는 하세요 하여 하지 한다 합니다 해서
"""

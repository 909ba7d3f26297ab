// SPDX-License-Identifier: Apache-2.0
/* The report's style sheet. Colours are variables, set once for light and once for dark; a picture that is a file of its own
 * has the light ones. */
#include "train/report.h"

/* clang-format off */
#define LIGHT \
    "--bg:#fafaf8;--card:#fff;--ink:#1d2126;--dim:#697079;--line:#e4e5e2;" \
    "--c0:#2f6fb5;--c1:#d1622b;--c2:#2c8a5f;--c3:#a0539d;--c4:#b58a10;--c5:#c23b58;--c6:#3a98a8;--c7:#7a6a58;" \
    "--shallow:#e0a030;--deep:#3b3f9e;" \
    "--h0:#15181c;--h1:#1f5aa6;--h2:#5b93cf;--h3:#a9cbe8;--h4:#ecedea;--h5:#f7c99f;--h6:#ee9250;--h7:#d1552a;--h8:#" \
    "8f2416;" \
    "--s0:#ecedea;--s1:#d6e3ea;--s2:#b9d4e2;--s3:#93bfd6;--s4:#69a5c7;--s5:#4488b5;--s6:#2a6a9c;--s7:#1a4d7d;--s8:#" \
    "0e325a"

#define DRAWINGS \
    ".grid{stroke:var(--line);fill:none}.gap{stroke:var(--card);fill:none}.axis{stroke:var(--dim);fill:none}" \
    ".tick{fill:var(--dim);font-size:12px;font-variant-numeric:tabular-nums}" \
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.faint{stroke-width:1;opacity:.35}" \
    ".dash{stroke-dasharray:7 4}.dot{stroke-dasharray:1.5 4}.floor{stroke-width:1.2;stroke-dasharray:2 3}.band{opacity:.16}" \
    ".label{font-size:12px;font-weight:600}.value{font-weight:400;fill:var(--dim)}" \
    ".h0{fill:var(--h0)}.h1{fill:var(--h1)}.h2{fill:var(--h2)}.h3{fill:var(--h3)}.h4{fill:var(--h4)}" \
    ".h5{fill:var(--h5)}.h6{fill:var(--h6)}.h7{fill:var(--h7)}.h8{fill:var(--h8)}" \
    ".s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}.s4{fill:var(--s4)}" \
    ".s5{fill:var(--s5)}.s6{fill:var(--s6)}.s7{fill:var(--s7)}.s8{fill:var(--s8)}"
/* clang-format on */

const char sgm_svg_colours[] = LIGHT;
const char sgm_svg_style[] = DRAWINGS;

const char sgm_report_style[] =
    ":root{color-scheme:light dark;" LIGHT "}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e6e7e4;--dim:#959ca4;--line:#2e3439;"
    "--c0:#6aa9ec;--c1:#ef8b55;--c2:#5cc193;--c3:#cf8acb;--c4:#dcb545;--c5:#ef7590;--c6:#64c6d6;--c7:#b5a48f;"
    "--shallow:#f0bb58;--deep:#7b80e6;"
    "--h0:#000;--h1:#3f83d6;--h2:#3a6396;--h3:#33485f;--h4:#3a3f44;--h5:#6b4c35;--h6:#a8602f;--h7:#dd7038;--h8:#ffa06e;"
    "--s0:#2b3035;--s1:#2b3f4c;--s2:#2b5064;--s3:#2b627d;--s4:#2f7698;--s5:#3a8cb3;--s6:#55a4cc;--s7:#7dbde0;--s8:#"
    "b1daf2}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif}"
    "main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}"
    "header h1{font-size:26px;font-weight:650;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}"
    "header p{margin:2px 0 20px;color:var(--dim)}"
    "h2{font-size:19px;font-weight:650;margin:38px 0 4px}h2+p{margin:0 0 14px;color:var(--dim);max-width:90ch}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}"
    ".tiles div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}"
    ".tiles b{display:block;font-size:23px;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums}"
    ".tiles span{color:var(--dim);font-size:13px}"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:16px}"
    ".pair+.pair{margin-top:16px}"
    "figure,.card{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px "
    "8px}"
    ".card{padding-bottom:14px;margin-bottom:16px}"
    "figcaption{margin-bottom:8px}figcaption b{display:block;font-weight:650}figcaption "
    "span{color:var(--dim);font-size:13px}"
    "figure>svg,.card .map svg{display:block;width:100%;height:auto}" DRAWINGS
    ".key{display:flex;flex-wrap:wrap;gap:4px 14px;margin:8px 0 4px;color:var(--dim);font-size:13px}"
    ".key svg{width:12px;height:12px;margin-right:5px;vertical-align:-1px;border-radius:2px}"
    ".times{display:flex;flex-wrap:wrap;gap:6px;margin:2px 0 12px}"
    ".times label{padding:2px 11px;border:1px solid var(--line);border-radius:999px;cursor:pointer;font-size:13px;"
    "font-variant-numeric:tabular-nums;color:var(--dim)}"
    "input.pick{position:absolute;opacity:0;pointer-events:none}.map{display:none}"
    ".samples{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,360px),1fr));gap:16px}"
    ".samples pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font:14px/1.55 ui-serif,Georgia,\"DejaVu "
    "Serif\",serif}"
    ".samples pre b{color:var(--c0);font-weight:600}.samples .card{margin:0}.samples h3{margin:0 0 8px;font-size:13px;"
    "font-weight:600;color:var(--dim)}"
    "table{border-collapse:collapse;width:100%;font-size:13px}td,th{text-align:left;padding:3px 14px 3px 0;"
    "border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--dim);font-weight:600}"
    "td{font-family:ui-monospace,\"DejaVu Sans "
    "Mono\",monospace;overflow-wrap:anywhere}td.o{color:var(--dim);font-family:inherit}"
    "tr.own td{color:var(--c1)}details summary{cursor:pointer;font-weight:650}"
    ".narrow{overflow-x:auto}.num{text-align:right;font-variant-numeric:tabular-nums}"
    "footer{margin-top:40px;color:var(--dim);font-size:13px}"
    "@media print{.card,figure{break-inside:avoid}}\n";

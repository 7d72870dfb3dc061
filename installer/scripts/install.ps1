<#
.SYNOPSIS
Installs, upgrades or removes ggfleet-agent on Windows.

.DESCRIPTION
Shows what it will do and asks, checks SHA-256 digests before anything is
installed or run, works from a folder without a network (-From) and behind a proxy
(-Proxy), and can enrol the device in the same go (-Enroll).

.EXAMPLE
.\install.ps1 -From D:\release -Enroll ggf1.eyJ1Ijoi...

.EXAMPLE
.\install.ps1 -Uninstall -Purge
#>
[CmdletBinding()]
param(
    [string]$From,            # folder with the files of a release; default: the script's own, if so
    [string]$Url,             # https address that has them
    [string]$Enroll,          # enrolment string: its control plane has them, too, and the device is enrolled there
    [string]$Version,         # of the release, when there are several
    [string]$Allow,           # with -Enroll: what the control plane may do, see 'ggfleet-agent allow --help'
    [string]$Proxy,           # for fetching and for enrolling
    [string]$Prefix = (Join-Path $env:ProgramFiles 'ggfleet-agent'),
    [switch]$Uninstall,
    [switch]$Purge,           # with -Uninstall: remove identity, keys and nucleus as well
    [switch]$DryRun,          # only show what would be done
    [switch]$Yes              # do not ask
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
[Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12

$program = 'ggfleet-agent'
$root = 'C:\ProgramData\ggfleet-agent'
$exe = Join-Path $Prefix "$program.exe"

function Fail([string]$message) { Write-Error "install.ps1: $message" -ErrorAction Continue; exit 1 }

function Confirm-Plan {
    if ($DryRun) { 'Nothing was changed (-DryRun).'; exit 0 }
    $me = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
    if (-not $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) { Fail 'this needs an administrator: start PowerShell as one' }
    if ($Yes) { return }
    if ((Read-Host 'Continue? [y/N]') -notmatch '^(y|yes)$') { Fail 'nothing was changed' }
}

# Run shows a command of the agent and runs it.
function Invoke-Agent([string[]]$arguments) {
    "+ $program $($arguments -join ' ')"
    & $exe @arguments
    if ($LASTEXITCODE -ne 0) { Fail "this failed: $program $($arguments -join ' ')" }
}

function Get-Installed {
    if (-not (Test-Path $exe)) { return '' }
    return ((& $exe version) -split ' ')[1]
}

if ($Purge -and -not $Uninstall) { Fail '-Purge goes with -Uninstall' }
if ($Uninstall) {
    $there = Get-Installed
    if (-not $there) { "$program is not installed: nothing to do."; exit 0 }
    "This removes $program $there from this machine:"
    '  service  is stopped and removed'
    "  program  $exe"
    if ($Purge) { "  data     $root with identity, keys and nucleus: the device must be enrolled again" }
    else { "  data     $root stays; -Purge removes it" }
    Confirm-Plan
    if ($Purge -and (Test-Path (Join-Path $root 'agent'))) { Invoke-Agent @('uninstall', '--purge', '--yes') } else { Invoke-Agent @('uninstall') }
    Remove-Item -Recurse -Force $Prefix
    "$program is removed."
    exit 0
}

$arch = switch ($env:PROCESSOR_ARCHITECTURE) {
    'AMD64' { 'amd64' }
    'ARM64' { 'arm64' }
    default { Fail "there is no agent for processors of kind $_`: want AMD64 or ARM64" }
}

# The enrolment string says where the control plane is and whom to trust there.
$pin = ''
$server = ''
if ($Enroll) {
    if (-not $Enroll.StartsWith('ggf1.')) { Fail 'the enrolment string must begin with "ggf1."; copy it whole from the activation' }
    try {
        $body = $Enroll.Trim().Substring(5).Replace('-', '+').Replace('_', '/')
        $body += '=' * ((4 - $body.Length % 4) % 4)
        $said = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($body)) | ConvertFrom-Json
        $server = $said.u
        if (-not $From -and -not $Url) { $pin = $said.f; $Url = $server.TrimEnd('/') + '/install' }
    } catch { Fail 'the enrolment string is damaged; copy it whole from the activation' }
}
if (-not $From -and -not $Url) {
    if (-not (Test-Path (Join-Path $PSScriptRoot 'SHA256SUMS'))) { Fail 'say where the release is: -From, -Url or -Enroll' }
    $From = $PSScriptRoot
}
if ($Url -and -not $Url.StartsWith('https://')) { Fail "-Url $Url`: want https://" }

# With a pin a server is believed when its chain holds the CA with that SHA-256,
# and is otherwise in order.
if ($pin) {
    Add-Type -TypeDefinition @'
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
public static class GgfleetPin {
    public static string Want;
    public static bool Check(object sender, X509Certificate certificate, X509Chain sent, SslPolicyErrors errors) {
        if ((errors & ~SslPolicyErrors.RemoteCertificateChainErrors) != 0) { return false; }
        using (var chain = new X509Chain()) using (var hash = SHA256.Create()) {
            chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
            chain.ChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
            foreach (var e in sent.ChainElements) { chain.ChainPolicy.ExtraStore.Add(e.Certificate); }
            if (!chain.Build(new X509Certificate2(certificate))) { return false; }
            var root = chain.ChainElements[chain.ChainElements.Count - 1].Certificate;
            return System.BitConverter.ToString(hash.ComputeHash(root.RawData)).Replace("-", "").ToLowerInvariant() == Want;
        }
    }
}
'@
    [GgfleetPin]::Want = $pin
    [Net.ServicePointManager]::ServerCertificateValidationCallback = [Delegate]::CreateDelegate(
        [Net.Security.RemoteCertificateValidationCallback], [GgfleetPin].GetMethod('Check'))
}

$tmp = Join-Path ([IO.Path]::GetTempPath()) ([IO.Path]::GetRandomFileName())
New-Item -ItemType Directory $tmp | Out-Null
try {
    function Get-File([string]$name) {
        $to = Join-Path $tmp $name
        if ($From) {
            if (-not (Test-Path (Join-Path $From $name))) { Fail "there is no $name in $From" }
            Copy-Item (Join-Path $From $name) $to
        } else {
            $client = New-Object Net.WebClient
            if ($Proxy) { $client.Proxy = New-Object Net.WebProxy($Proxy) }
            try { $client.DownloadFile("$Url/$name", $to) } catch { Fail "fetching $Url/$name failed: $($_.Exception.GetBaseException().Message)" }
        }
        return $to
    }

    $offers = @()
    foreach ($line in Get-Content (Get-File 'SHA256SUMS')) {
        if ($line -match "^([0-9a-f]{64}) [ *](${program}_(.+)_windows_$arch\.zip)$" -and (-not $Version -or $Matches[3] -eq $Version.TrimStart('v'))) {
            $offers += @{ Sum = $Matches[1]; File = $Matches[2]; Version = $Matches[3] }
        }
    }
    if ($offers.Count -eq 0) { Fail "the release has no $program $Version for windows_$arch" }
    if ($offers.Count -gt 1) { Fail "there are several versions: $(($offers | ForEach-Object { $_.Version }) -join ' ') - choose one with -Version" }
    $offer = $offers[0]

    $there = Get-Installed
    "This installs $program $($offer.Version) for windows_$arch on this machine:"
    "  from     $(if ($From) { $From } else { $Url })"
    if ($pin) { "  trusting the CA with SHA-256 $pin, no other" }
    if ($there -eq $offer.Version) { "  install  nothing: $there is there already" }
    else {
        "  check    SHA-256 of $($offer.File) is $($offer.Sum)"
        "  install  $exe$(if ($there) { " (now $there)" })"
    }
    if ($Enroll) { "  enrol    this device at $server$(if ($Allow) { ", allowing $Allow" })"; "  service  $program starts with the machine and now" }
    Confirm-Plan

    if ($there -ne $offer.Version) {
        $zip = Get-File $offer.File
        $sum = (Get-FileHash -Algorithm SHA256 $zip).Hash.ToLowerInvariant()
        if ($sum -ne $offer.Sum) { Fail "$($offer.File) is not what SHA256SUMS says: its SHA-256 is $sum, want $($offer.Sum); nothing was changed" }
        Expand-Archive $zip (Join-Path $tmp 'unpacked')
        New-Item -ItemType Directory -Force $Prefix | Out-Null
        $service = Get-Service $program -ErrorAction SilentlyContinue
        $ran = $service -and $service.Status -eq 'Running'
        if ($ran) { Stop-Service $program }
        Copy-Item -Force (Join-Path $tmp "unpacked\$program.exe") $exe
        if ($ran) { Start-Service $program }
        "+ $exe is written"
    }
    if ($Enroll) {
        if ($Proxy) { $env:HTTPS_PROXY = $Proxy }
        "+ $program enroll -"
        $more = @(if ($Allow) { '--allow', $Allow })
        $Enroll | & $exe enroll - @more
        if ($LASTEXITCODE -ne 0) { Fail "the agent is installed and could not be enrolled; run '$program enroll STRING' when the reason is gone" }
        Invoke-Agent @('install')
    }
    "$program $($offer.Version) is installed."
    if (-not $Enroll -and -not (Test-Path (Join-Path $root 'agent\identity.json'))) { "Next: & '$exe' enroll STRING, then & '$exe' install" }
} finally {
    Remove-Item -Recurse -Force $tmp
}

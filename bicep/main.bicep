// All that one environment has in Azure, in one resource group. What Azure and the cluster must agree on is in system.json.
targetScope = 'resourceGroup'

@description('Name of the deployment, lower-case letters and digits; the names of all resources are made from it.')
@minLength(2)
@maxLength(9)
param name string = 'liveops'

@description('Environment.')
@allowed(['dev', 'staging', 'prod'])
param environment string

@description('Azure region.')
param location string = resourceGroup().location

@description('Addresses of the virtual network, a /16.')
param addressPrefix string

@description('Whether Service Bus, key vaults and storage are reached through private endpoints only, as Redis is anyway. Wants Premium Service Bus.')
param privateOnly bool

@description('Public address ranges from which operators reach the Kubernetes API, and the key vaults when privateOnly. Empty: the API answers everywhere, private vaults nowhere outside the network.')
param operatorRanges array = []

@description('Object id of the Entra group of operators, who make secrets and administer the cluster. Empty: nobody gets a role.')
param operators string = ''

@description('Whether the Kubernetes API is in the virtual network only.')
param privateApi bool = false

@description('Availability zones; empty: none.')
param zones array

@description('Tier of the cluster\'s control plane.')
@allowed(['Free', 'Standard'])
param clusterTier string

@description('The cluster\'s pool of add-ons: an object of vmSize, min and max nodes.')
param systemPool object

@description('The cluster\'s pool of workloads: an object of vmSize, min and max nodes.')
param workloadPool object

@description('Tier of the container registry.')
@allowed(['Basic', 'Standard', 'Premium'])
param registrySku string

@description('Tier of Service Bus.')
@allowed(['Standard', 'Premium'])
param serviceBusSku string

@description('Messaging units of Service Bus. Only for Premium.')
param serviceBusCapacity int = 1

@description('Tier of Redis: an object of name, family and capacity.')
param redisSku object

@description('How the storage account is replicated.')
@allowed(['Standard_LRS', 'Standard_ZRS'])
param storageSku string

@description('Whether MySQL runs on a VM that is made here. If not, it is at mysqlAddress.')
param mysqlVm bool = true

@description('Address of a MySQL that is not made here.')
param mysqlAddress string = ''

@description('Size of MySQL\'s VM, of a series with SCSI disks.')
param mysqlVmSize string = 'Standard_E4ads_v5'

@description('Size of the disk with MySQL\'s data, in GiB.')
param mysqlDiskGB int = 256

@description('Public SSH key of MySQL\'s VM; az vm run-command works without. Nobody has the private half of the one in the parameter files. Empty only without the VM.')
param mysqlSshPublicKey string = ''

@description('Days that a backup of MySQL is kept.')
param backupDays int = 30

@description('How a MySQL that is not made here is reached.')
@allowed(['none', 'vpn', 'expressRoute'])
param gateway string = 'none'

@description('Public address of the VPN device over there. Only for gateway vpn.')
param peerAddress string = ''

@description('Address ranges over there. Only for gateway vpn.')
param peerPrefixes array = []

@description('Resource id of the circuit. Only for gateway expressRoute.')
param circuitId string = ''

@description('Days that Azure\'s logs are kept.')
param logDays int = 30

var system = loadJsonContent('system.json')
var base = '${name}-${environment}'
var unique = uniqueString(resourceGroup().id)
var backupsName = 'bk${name}${unique}'
var vaultNames = {
  services: 'kv-services-${take(unique, 12)}' // Azure takes 24 characters
  schema: 'kv-schema-${unique}'
  ingress: 'kv-ingress-${unique}'
  monitoring: 'kv-monitoring-${take(unique, 10)}'
}
// Azure keeps the first four addresses of a subnet.
var databaseAddress = mysqlVm ? cidrHost(cidrSubnet(addressPrefix, 24, 5), 3) : mysqlAddress

var serviceNames = objectKeys(system.services)
var services = map(serviceNames, service => { name: service, namespace: system.namespace, serviceAccounts: [service] })
var workloads = concat(services, [
  { name: 'migrate', namespace: system.namespace, serviceAccounts: ['migrate'] }
  { name: 'keda', namespace: 'kube-system', serviceAccounts: ['keda-operator'] }
  { name: 'monitoring', namespace: 'monitoring', serviceAccounts: ['alertmanager', 'grafana', 'loki', 'redis-exporter', 'tempo'] }
])

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    name: 'log-${base}'
    location: location
    retentionDays: logDays
  }
}

module network 'modules/network.bicep' = {
  name: 'network'
  params: {
    name: 'vnet-${base}'
    location: location
    addressPrefix: addressPrefix
    mysqlVm: mysqlVm
    gateway: gateway != 'none'
    mysqlAddress: databaseAddress
    dnsZone: '${base}.internal'
  }
}

module peering 'modules/gateway.bicep' = if (gateway != 'none') {
  name: 'gateway'
  params: {
    name: base
    location: location
    vpn: gateway == 'vpn'
    subnetId: network.outputs.gatewaySubnetId
    peerAddress: peerAddress
    peerPrefixes: peerPrefixes
    circuitId: circuitId
  }
}

module aks 'modules/aks.bicep' = {
  name: 'aks'
  params: {
    name: 'aks-${base}'
    location: location
    vnetName: network.outputs.vnetName
    natAddress: network.outputs.natAddress
    tier: clusterTier
    zones: zones
    systemPool: systemPool
    workloadPool: workloadPool
    privateApi: privateApi
    operatorRanges: operatorRanges
    operators: operators
    workspaceId: monitoring.outputs.workspaceId
  }
}

module identities 'modules/identities.bicep' = {
  name: 'identities'
  params: {
    prefix: 'id-${base}'
    location: location
    issuer: aks.outputs.issuer
    workloads: workloads
  }
}

var clientIds = toObject(identities.outputs.identities, identity => identity.name, identity => identity.clientId)
var principalIds = toObject(identities.outputs.identities, identity => identity.name, identity => identity.principalId)

module acr 'modules/acr.bicep' = {
  name: 'acr'
  params: {
    name: 'cr${name}${environment}${unique}'
    location: location
    sku: registrySku
    kubeletPrincipalId: aks.outputs.kubeletPrincipalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module servicebus 'modules/servicebus.bicep' = {
  name: 'servicebus'
  params: {
    name: 'sb-${base}-${unique}'
    location: location
    sku: serviceBusSku
    capacity: serviceBusCapacity
    privateOnly: privateOnly
    principals: principalIds
    workspaceId: monitoring.outputs.workspaceId
  }
}

module redis 'modules/redis.bicep' = {
  name: 'redis'
  params: {
    name: 'redis-${base}-${unique}'
    location: location
    sku: redisSku
    zones: zones
    workspaceId: monitoring.outputs.workspaceId
  }
}

module mysql 'modules/mysql-vm.bicep' = if (mysqlVm) {
  name: 'mysql-vm'
  params: {
    name: 'vm-${base}-mysql'
    location: location
    subnetId: network.outputs.mysqlSubnetId
    address: databaseAddress
    vmSize: mysqlVmSize
    dataDiskGB: mysqlDiskGB
    zone: empty(zones) ? '' : zones[0]
    sshPublicKey: mysqlSshPublicKey
    vaultName: vaultNames.schema
    storageAccount: backupsName
    lokiAddress: network.outputs.lokiAddress
  }
}

// The locks by which one replica of many runs a timer.
module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: 'st${name}${unique}'
    location: location
    sku: storageSku
    privateOnly: privateOnly
    ownerPrincipalId: principalIds.leaderboard
  }
}

// Logs and traces.
module monitoringStorage 'modules/storage.bicep' = {
  name: 'storage-monitoring'
  params: {
    name: 'mn${name}${unique}'
    location: location
    sku: storageSku
    privateOnly: privateOnly
    ownerPrincipalId: principalIds.monitoring
    containers: ['loki', 'tempo']
  }
}

// An account of its own, which no service can reach.
module backupStorage 'modules/storage.bicep' = if (mysqlVm) {
  name: 'storage-backups'
  params: {
    name: backupsName
    location: location
    sku: storageSku
    privateOnly: privateOnly
  }
}

module backups 'modules/backups.bicep' = if (mysqlVm) {
  name: 'backups'
  params: {
    storageAccount: backupStorage!.outputs.name
    writerPrincipalId: mysql!.outputs.principalId
    backupDays: backupDays
  }
}

module servicesVault 'modules/keyvault.bicep' = {
  name: 'keyvault-services'
  params: {
    name: vaultNames.services
    location: location
    privateOnly: privateOnly
    operatorRanges: operatorRanges
    readers: map(serviceNames, service => { name: service, principalId: principalIds[service] })
    operators: operators
    workspaceId: monitoring.outputs.workspaceId
  }
}

module schemaVault 'modules/keyvault.bicep' = {
  name: 'keyvault-schema'
  params: {
    name: vaultNames.schema
    location: location
    privateOnly: privateOnly
    operatorRanges: operatorRanges
    readers: concat(
      [{ name: 'migrate', principalId: principalIds.migrate }],
      mysqlVm ? [{ name: 'mysql-vm', principalId: mysql!.outputs.principalId }] : []
    )
    operators: operators
    workspaceId: monitoring.outputs.workspaceId
  }
}

// What is looked at with many eyes must not read what the services read.
module monitoringVault 'modules/keyvault.bicep' = {
  name: 'keyvault-monitoring'
  params: {
    name: vaultNames.monitoring
    location: location
    privateOnly: privateOnly
    operatorRanges: operatorRanges
    readers: [{ name: 'monitoring', principalId: principalIds.monitoring }]
    operators: operators
    workspaceId: monitoring.outputs.workspaceId
  }
}

// A vault of its own: whatever reaches a node's metadata service can act as the Ingress controller, and must not read more.
module ingressVault 'modules/keyvault.bicep' = {
  name: 'keyvault-ingress'
  params: {
    name: vaultNames.ingress
    location: location
    privateOnly: privateOnly
    operatorRanges: operatorRanges
    readers: [{ name: 'ingress', principalId: aks.outputs.ingressPrincipalId }]
    readersRead: 'certificates'
    operators: operators
    workspaceId: monitoring.outputs.workspaceId
  }
}

module endpoints 'modules/private-endpoints.bicep' = {
  name: 'private-endpoints'
  params: {
    location: location
    vnetId: network.outputs.vnetId
    subnetId: network.outputs.endpointsSubnetId
    targets: concat(
      [{ name: 'redis', id: redis.outputs.id, group: 'redisCache', zone: 'privatelink.redis.cache.windows.net' }],
      privateOnly
        ? [
            { name: 'servicebus', id: servicebus.outputs.id, group: 'namespace', zone: 'privatelink.servicebus.windows.net' }
            { name: 'storage', id: storage.outputs.id, group: 'blob', zone: 'privatelink.blob.${az.environment().suffixes.storage}' }
            { name: 'keyvault-services', id: servicesVault.outputs.id, group: 'vault', zone: 'privatelink.vaultcore.azure.net' }
            { name: 'keyvault-schema', id: schemaVault.outputs.id, group: 'vault', zone: 'privatelink.vaultcore.azure.net' }
            { name: 'keyvault-ingress', id: ingressVault.outputs.id, group: 'vault', zone: 'privatelink.vaultcore.azure.net' }
            { name: 'keyvault-monitoring', id: monitoringVault.outputs.id, group: 'vault', zone: 'privatelink.vaultcore.azure.net' }
            { name: 'storage-monitoring', id: monitoringStorage.outputs.id, group: 'blob', zone: 'privatelink.blob.${az.environment().suffixes.storage}' }
          ]
        : [],
      privateOnly && mysqlVm
        ? [{ name: 'backups', id: backupStorage!.outputs.id, group: 'blob', zone: 'privatelink.blob.${az.environment().suffixes.storage}' }]
        : []
    )
  }
}

@description('What the cluster must know of Azure: the lines of deploy/overlays/<environment>/azure/azure.env.')
output azureEnv array = [
  'AZURE_TENANT_ID=${subscription().tenantId}'
  'SERVICEBUS_NAMESPACE=${servicebus.outputs.name}'
  'SERVICEBUS_FQDN=${servicebus.outputs.fqdn}'
  'KEY_VAULT_SERVICES=${servicesVault.outputs.name}'
  'KEY_VAULT_SCHEMA=${schemaVault.outputs.name}'
  'STORAGE_ACCOUNT=${storage.outputs.name}'
  'CLIENT_ID_GATEWAY=${clientIds.gateway}'
  'CLIENT_ID_FAIRNESS=${clientIds.fairness}'
  'CLIENT_ID_PROGRESSION=${clientIds.progression}'
  'CLIENT_ID_LEADERBOARD=${clientIds.leaderboard}'
  'CLIENT_ID_MIGRATE=${clientIds.migrate}'
  'CLIENT_ID_KEDA=${clientIds.keda}'
  'MYSQL_ADDRESS=${databaseAddress}/32'
  'MYSQL_HOST=${network.outputs.mysqlHost}'
  'PRIVATE_ENDPOINTS_CIDR=${network.outputs.endpointsPrefix}'
  'REDIS_HOST=${redis.outputs.host}'
  'TLS_CERT_URI=${ingressVault.outputs.uri}certificates/liveops-tls'
  'ACR_LOGIN_SERVER=${acr.outputs.loginServer}'
  'CLIENT_ID_MONITORING=${clientIds.monitoring}'
  'KEY_VAULT_MONITORING=${monitoringVault.outputs.name}'
  'STORAGE_ACCOUNT_MONITORING=${monitoringStorage.outputs.name}'
  'LOKI_ADDRESS=${network.outputs.lokiAddress}'
]

@description('Name of the cluster, for az aks get-credentials.')
output aksName string = aks.outputs.name

@description('Name of the container registry, for az acr login.')
output acrName string = acr.outputs.name

@description('OIDC issuer of the cluster.')
output oidcIssuer string = aks.outputs.issuer

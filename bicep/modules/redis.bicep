// Redis, over TLS and through a private endpoint only.

@description('Name of the cache.')
param name string

@description('Azure region.')
param location string

@description('Tier: an object of name (Basic, Standard, Premium), family (C, P) and capacity. One node: no cluster.')
param sku object

@description('Availability zones. Only for Premium.')
param zones array

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

resource cache 'Microsoft.Cache/redis@2024-11-01' = {
  name: name
  location: location
  zones: sku.name == 'Premium' && !empty(zones) ? zones : null
  properties: {
    sku: {
      name: sku.name
      family: sku.family
      capacity: sku.capacity
    }
    enableNonSslPort: false
    minimumTlsVersion: '1.2'
    publicNetworkAccess: 'Disabled'
    redisConfiguration: {
      // Nonces, idempotency keys and blocks live here: one that was evicted would let a request through twice. A full
      // Redis refuses writes instead. What is lost is rebuilt from MySQL, so nothing is persisted.
      'maxmemory-policy': 'noeviction'
    }
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: cache
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

@description('Resource id of the cache.')
output id string = cache.id

@description('Host name of the cache.')
output host string = cache.properties.hostName

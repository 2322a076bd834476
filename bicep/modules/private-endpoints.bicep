// Private endpoints, and the private DNS zones that turn the public names of their targets into them.

@description('Azure region.')
param location string

@description('Resource id of the virtual network.')
param vnetId string

@description('Resource id of the subnet that the endpoints are in.')
param subnetId string

@description('What gets an endpoint: objects of name, id (the resource), group (the sub-resource) and zone (the private DNS zone).')
param targets array

var zoneNames = union(map(targets, target => target.zone), []) // each once

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for zone in zoneNames: {
  name: zone
  location: 'global'
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (zone, i) in zoneNames: {
  parent: zones[i]
  name: last(split(vnetId, '/'))
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: { id: vnetId }
  }
}]

resource endpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [for target in targets: {
  name: 'pe-${target.name}'
  location: location
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      {
        name: target.name
        properties: {
          privateLinkServiceId: target.id
          groupIds: [target.group]
        }
      }
    ]
  }
}]

resource records 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [for (target, i) in targets: {
  parent: endpoints[i]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: target.group
        properties: { privateDnsZoneId: zones[indexOf(zoneNames, target.zone)].id }
      }
    ]
  }
}]
